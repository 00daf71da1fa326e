// SPDX-License-Identifier: Apache-2.0
// The spool itself is full, missing, refused by its disk, stopped, left by its process.
#include <fstream>
#include <set>

#include "runtime/sqlite/connection.hpp"
#include "transports/spool/spool_test_support.hpp"

namespace flexi::transports::spool::testing {
namespace {

TEST_F(SpoolTest, AFullSpoolIsUnavailableAndTakesAgainWhenItHasRoom) {
  options_.max_messages = 5;
  open();
  queue_.up = false;
  spool(0, 5);
  auto full = send(log_request("x"));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(full.error().retry_after);
  EXPECT_EQ(spool_->status().messages, 5);
  queue_.up = true;
  ASSERT_TRUE(drained());
  queue_.up = false;
  spool(5, 10);
  close();
  options_.max_messages = 1000;
  options_.max_bytes = 100;
  open();
  full = send(log_request("y", Ack::accepted, std::string(200, 'y')));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(spool_->status().messages, 5);
}

TEST_F(SpoolTest, WithoutItsVolumeItIsUnavailableAndComesWithIt) {
  { std::ofstream(folder_ + "/volume") << "not a folder"; }
  options_.directory = folder_ + "/volume/spool";
  open();
  auto reply = send(log_request("m0"));
  ASSERT_TRUE(reply) << "nothing is wrong with RabbitMQ";
  queue_.up = false;
  reply = send(log_request("x"));
  ASSERT_FALSE(reply) << "never a 202 that is not true";
  EXPECT_EQ(reply.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(reply.error().retry_after);
  EXPECT_EQ(run(spool_->list(10, "", {})).error().kind, ErrorKind::unavailable);
  EXPECT_EQ(run(spool_->accounts({})).error().kind, ErrorKind::unavailable) << "there may be messages on the volume";
  fs::remove(folder_ + "/volume");
  fs::create_directory(folder_ + "/volume");
  ASSERT_TRUE(eventually([&] { return spool_->status().usable; }));
  spool(1, 3);
  queue_.up = true;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), numbered(0, 3));
}

TEST_F(SpoolTest, ADiskThatRefusesMakesNoFalse202) {
  open();
  queue_.up = false;
  spool(0, 1);
  // What a disk that refuses does to a transaction.
  auto other = std::move(runtime::sqlite::Connection::open(options_.directory + "/spool-1.db", runtime::sqlite::Connection::Mode::read_write)).value();
  ASSERT_TRUE(other->execute("CREATE TRIGGER refuse BEFORE INSERT ON spool_messages BEGIN SELECT RAISE(ROLLBACK, 'no space'); END"));
  auto refused = send(log_request("m1"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(refused.error().retry_after);
  EXPECT_EQ(spool_->status().messages, 1);
  ASSERT_TRUE(other->execute("DROP TRIGGER refuse"));
  spool(1, 2);
  queue_.up = true;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), numbered(0, 2));
}

TEST_F(SpoolTest, AnIdThatWaitsIsADuplicateOrAConflict) {
  open();
  queue_.up = false;
  spool(0, 1);
  auto again = send(log_request("m0"));
  ASSERT_TRUE(again);
  EXPECT_TRUE(again.value().duplicate);
  auto other = send(log_request("m0", Ack::accepted, "other data"));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().kind, ErrorKind::conflict);
  EXPECT_EQ(spool_->status().messages, 1);
  EXPECT_EQ(find("m0")->state, core::Receipt::State::spooled);
  EXPECT_FALSE(find("unknown"));
}

TEST_F(SpoolTest, WhatFailedBecauseOfTheShutdownStays) {
  open();
  queue_.up = false;
  spool(0, 100);
  queue_.hold = true, queue_.up = true;
  ASSERT_TRUE(eventually([&] { return !queue_.arrived().empty(); }));
  stop(spool_, std::chrono::milliseconds(0));
  queue_.hold = false;
  const auto before = queue_.arrived().size();
  open();
  EXPECT_EQ(spool_->status().dead_letters, 0);
  ASSERT_TRUE(drained());
  const auto arrived = queue_.arrived();
  EXPECT_EQ(std::vector<std::string>(arrived.begin() + static_cast<std::ptrdiff_t>(before), arrived.end()), numbered(0, 100));
}

TEST_F(SpoolTest, ASuccessorAdoptsTheSpoolOfADeadProcessAndNobodyTheSpoolOfALivingOne) {
  FakeQueue other_queue;
  other_queue.up = false;
  queue_.up = false;
  open();
  auto other = make(other_queue);
  EXPECT_TRUE(fs::exists(options_.directory + "/spool-2.db"));
  spool(10, 20);
  for (auto& id : numbered(0, 10)) ASSERT_TRUE(run(other->handle(log_request(id), {})));
  const auto calls = queue_.calls();
  ASSERT_TRUE(eventually([&] { return queue_.calls() > calls + 5; }));
  EXPECT_EQ(spool_->status().messages, 10) << "the other one lives: its lock holds";
  stop(other);
  ASSERT_TRUE(eventually([&] { return spool_->status().messages == 20; }));
  EXPECT_FALSE(fs::exists(options_.directory + "/spool-2.db"));
  EXPECT_EQ(find("m5")->state, core::Receipt::State::spooled);
  queue_.up = true;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), numbered(0, 20)) << "the dead process's were older";
  EXPECT_TRUE(other_queue.arrived().empty());
}

TEST_F(SpoolTest, AnAdoptionThatFailedOnceIsTriedAgainAndSeenMeanwhile) {
  queue_.up = false;
  open();
  auto other = make(queue_);
  for (auto& id : numbered(0, 10)) ASSERT_TRUE(run(other->handle(log_request(id), {})));
  // What a disk that refuses in the middle of it does to the transaction.
  auto disk = std::move(runtime::sqlite::Connection::open(options_.directory + "/spool-1.db", runtime::sqlite::Connection::Mode::read_write)).value();
  ASSERT_TRUE(disk->execute("CREATE TRIGGER refuse BEFORE INSERT ON spool_messages WHEN NEW.id = 'm5' BEGIN SELECT RAISE(ROLLBACK, 'no space'); END"));
  const auto orphans = [&] { return metrics_.gauge("flexi_spool_orphans", "Spools of processes that died which could not be adopted yet").value(); };
  EXPECT_EQ(orphans(), 0);
  stop(other);
  ASSERT_TRUE(eventually([&] { return orphans() == 1; }));
  EXPECT_EQ(spool_->status().messages, 0);
  ASSERT_TRUE(disk->execute("DROP TRIGGER refuse"));
  ASSERT_TRUE(eventually([&] { return spool_->status().messages == 10; }));
  ASSERT_TRUE(eventually([&] { return orphans() == 0; }));
  EXPECT_FALSE(fs::exists(options_.directory + "/spool-2.db"));
  queue_.up = true;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), numbered(0, 10));
}

TEST_F(SpoolTest, AnAdopterThatDiedBeforeItRemovedTheFileHasAdoptedItOnce) {
  queue_.up = false;
  open();
  auto other = make(queue_);
  for (auto& id : numbered(0, 10)) ASSERT_TRUE(run(other->handle(log_request(id), {})));
  for (const char* suffix : {"", "-wal"}) fs::copy_file(options_.directory + "/spool-2.db" + suffix, folder_ + "/kept" + suffix);
  stop(other);
  ASSERT_TRUE(eventually([&] { return spool_->status().messages == 10; }));
  spool(10, 15);
  close();
  // As kill -9 leaves it between the commit and the removal.
  for (const char* suffix : {"", "-wal"}) fs::copy_file(folder_ + "/kept" + suffix, options_.directory + "/spool-2.db" + suffix);
  open();
  ASSERT_TRUE(eventually([&] { return !fs::exists(options_.directory + "/spool-2.db"); }));
  EXPECT_EQ(spool_->status().messages, 15);
  queue_.up = true;
  ASSERT_TRUE(drained());
  // The first batch may meet a queue that comes back in its midst: then some arrive once more.
  const auto arrived = queue_.arrived(), all = numbered(0, 15);
  EXPECT_EQ(std::set(arrived.begin(), arrived.end()), std::set(all.begin(), all.end()));
}

TEST_F(SpoolTest, AFileThatWasNeverFinishedHoldsNothingAndIsRemoved) {
  fs::create_directory(options_.directory);
  for (auto* name : {"/spool-1.lock", "/spool-2.lock", "/spool-2.db"}) std::ofstream(options_.directory + name);
  open();
  EXPECT_TRUE(eventually([&] { return !fs::exists(options_.directory + "/spool-2.db"); }));
  EXPECT_EQ(spool_->status().messages, 0);
}

TEST_F(SpoolTest, AFileThatIsNoSpoolIsLeftAlone) {
  fs::create_directory(options_.directory);
  { std::ofstream(options_.directory + "/spool-1.lock"); }
  { std::ofstream(options_.directory + "/spool-2.lock"); }
  { std::ofstream(options_.directory + "/spool-2.db") << "what is this"; }
  open();
  queue_.up = false;
  spool(0, 3);
  queue_.up = true;
  ASSERT_TRUE(drained());
  std::ifstream file(options_.directory + "/spool-2.db");
  std::string text;
  std::getline(file, text);
  EXPECT_EQ(text, "what is this");
}

TEST_F(SpoolTest, ACallerWhoLeavesIsCountedAll) {
  open();
  queue_.up = false;
  spool(0, 1);
  asio::cancellation_signal leave;
  auto call = [](Spool* spool) -> core::awaitable<void> { (void)co_await spool->handle(log_request("left"), {}); };
  asio::post(shards_.executor(1), [&] {
    asio::co_spawn(shards_.executor(1), call(spool_.get()), asio::bind_cancellation_slot(leave.slot(), [](std::exception_ptr) {}));
    asio::post(shards_.executor(1), [&] { leave.emit(asio::cancellation_type::terminal); });
  });
  ASSERT_TRUE(eventually([&] { return find("left").has_value(); }));
  ASSERT_TRUE(eventually([&] { return spool_->status().messages == 2; }));
  queue_.up = true;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), (std::vector<std::string>{"m0", "left"}));
}

TEST_F(SpoolTest, EveryWrongSettingIsNamed) {
  options_.batch = 0;
  options_.max_messages = 0;
  options_.retry_delay = std::chrono::milliseconds(-1);
  EXPECT_EQ(options_.validate().size(), 3u);
  EXPECT_TRUE(SpoolOptions{}.validate().empty());
}

}  // namespace
}  // namespace flexi::transports::spool::testing
