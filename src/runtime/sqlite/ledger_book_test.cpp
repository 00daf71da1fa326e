// SPDX-License-Identifier: Apache-2.0
#include "runtime/sqlite/ledger_book.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/shards.hpp"

namespace flexi::runtime::sqlite {
namespace {

using core::LedgerLine;
using core::Result;
using core::Via;

class LedgerBookTest : public testing::Test {
 public:
  LedgerBookTest() {
    std::string name = testing::TempDir() + "flexi-ledger-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    reopen();
  }
  ~LedgerBookTest() override {
    close();
    std::filesystem::remove_all(folder_);
  }
  void close() {
    book_.reset();
    database_.reset();
  }
  void reopen() {
    close();
    database_ = std::move(Database::open({.path = folder_ + "/test.db"}, LogSink::none(), metrics_)).value();
    book_ = std::move(LedgerBook::open(*database_)).value();
  }
  template <class T>
  T wait(core::awaitable<T> work) {
    std::optional<T> result;
    shards_.run([](core::awaitable<T> inner, std::optional<T>& out) -> core::awaitable<void> { out.emplace(co_await std::move(inner)); }(std::move(work), result));
    return std::move(*result);
  }
  bool write(std::function<Result<bool>(Connection&)> job) { return wait(database_->write(Atomicity::single_statement, std::move(job), {})).has_value(); }
  LedgerLine line(std::string_view action, std::string_view way) {
    auto accounts = wait(book_->accounts({}));
    EXPECT_TRUE(accounts);
    EXPECT_EQ(accounts.value().size(), 1u);
    EXPECT_EQ(accounts.value().front().book, book_->id());
    for (auto& line : accounts.value().front().lines)
      if (line.action == action && line.way == way) return line;
    return {};
  }
  bool repeat(std::string id, Acceptance first, Acceptance again) {
    return write([this, id, first, again](Connection& c) -> Result<bool> {
      FLEXI_TRY(book_->repeated(c, "log", id, first, again, again.via == Via::amqp ? AcceptedBy::publisher : AcceptedBy::store));
      return true;
    });
  }

  std::string folder_;
  Metrics metrics_;
  Shards shards_{1};
  std::unique_ptr<Database> database_;
  std::unique_ptr<LedgerBook> book_;
};

TEST_F(LedgerBookTest, CountsByActionAndWayAndKeepsThem) {
  for (auto via : {Via::http, Via::http, Via::amqp, Via::automatic})
    ASSERT_TRUE(write([this, via](Connection&) -> Result<bool> { return book_->stored("log", via, via == Via::amqp ? AcceptedBy::publisher : AcceptedBy::store), true; }));
  const auto id = book_->id();
  reopen();
  EXPECT_EQ(book_->id(), id);
  EXPECT_EQ(line("log", "http").accepted, 2);
  EXPECT_EQ(line("log", "http").stored, 2);
  EXPECT_EQ(line("log", "http").unaccounted(), 0);
  EXPECT_EQ(line("log", "inproc").stored, 1);
  EXPECT_EQ(line("log", "amqp").accepted, 0) << "its publisher counts it";
  EXPECT_EQ(line("log", "amqp").stored, 1);
  ASSERT_TRUE(wait(book_->add({{.action = "log", .way = "amqp", .accepted = 3, .expired = 1}, {.action = "mail", .way = "amqp", .dead_lettered = 1}}, {})));
  EXPECT_EQ(line("log", "amqp").unaccounted(), 1);
  EXPECT_EQ(line("mail", "amqp").dead_lettered, 1);
}

TEST_F(LedgerBookTest, WhatABatchUndoesIsNotCounted) {
  ASSERT_FALSE(write([this](Connection& c) -> Result<bool> {
    book_->stored("log", Via::http, AcceptedBy::store);
    FLEXI_TRY(c.execute("ROLLBACK"));  // as a full disk does
    return true;
  }));
  ASSERT_TRUE(write([](Connection&) -> Result<bool> { return true; }));
  EXPECT_EQ(line("log", "http").stored, 0);
  ASSERT_TRUE(write([this](Connection&) -> Result<bool> { return book_->stored("log", Via::http, AcceptedBy::store), true; }));
  EXPECT_EQ(line("log", "http").stored, 1);
}

TEST_F(LedgerBookTest, ABookThatCannotBeWrittenUndoesWhatItCounts) {
  ASSERT_TRUE(database_->write_now([](Connection& c) { return c.execute("CREATE TABLE t(v); DROP TABLE ledger_lines"); }));
  ASSERT_FALSE(write([this](Connection& c) -> Result<bool> {
    FLEXI_TRY(c.execute("INSERT INTO t VALUES(1)"));
    book_->stored("log", Via::http, AcceptedBy::store);
    return true;
  }));
  auto rows = wait(database_->read([](Connection& c) -> Result<std::int64_t> {
    auto row = c.use("SELECT count(*) FROM t");
    FLEXI_TRY(row.step());
    return row.integer(0);
  }, {}));
  EXPECT_EQ(rows.value(), 0);
}

TEST_F(LedgerBookTest, AnIdAcceptedAgainIsOneIdHoweverOftenItIsRedelivered) {
  const Acceptance first{Via::amqp, 100}, direct{Via::http, 100};
  ASSERT_TRUE(repeat("redelivered", first, first));
  ASSERT_TRUE(repeat("redelivered", first, first));
  EXPECT_EQ(line("log", "amqp").duplicates, 2);
  EXPECT_EQ(line("log", "amqp").accepted, 0);
  // Stored directly, while the broker had already fallen back to the queue: that accepted it too.
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(repeat("fallen-back", direct, {Via::amqp, 100}));
  EXPECT_EQ(line("log", "amqp").accepted, -1);
  // And once more later.
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(repeat("fallen-back", direct, {Via::amqp, 200}));
  EXPECT_EQ(line("log", "amqp").accepted, -2);
  EXPECT_EQ(line("log", "amqp").duplicates, 7);
  // A direct way accepts nothing that it doesn't store.
  ASSERT_TRUE(repeat("fallen-back", direct, {Via::http, 300}));
  EXPECT_EQ(line("log", "http").accepted, 0);
  EXPECT_EQ(line("log", "http").duplicates, 1);
  auto count = wait(database_->read([](Connection& c) { return LedgerBook::repeats(c, "log", "fallen-back"); }, {}));
  EXPECT_EQ(count.value(), 6u);
  ASSERT_TRUE(database_->write_now([this](Connection& c) -> Result<void> {
    EXPECT_FALSE(book_->purge_some(c, std::chrono::system_clock::now()));
    EXPECT_EQ(LedgerBook::repeats(c, "log", "fallen-back").value(), 6u);
    EXPECT_FALSE(book_->purge_some(c, std::chrono::system_clock::now() + std::chrono::hours(24 * 100)));
    EXPECT_EQ(LedgerBook::repeats(c, "log", "fallen-back").value(), 0u);
    return core::ok();
  }));
}

}  // namespace
}  // namespace flexi::runtime::sqlite
