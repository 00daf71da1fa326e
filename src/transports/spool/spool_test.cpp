// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "runtime/sqlite/connection.hpp"
#include "transports/spool/spool.hpp"

extern char** environ;

namespace flexi::transports::spool {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using core::Ack;
using core::ErrorKind;
using core::Reply;
using core::Request;
using core::Result;

/// A publisher that is up, down, or holds its confirms; keeps what came to it in order of arrival.
class FakeQueue final : public core::Handler {
 public:
  std::atomic<bool> up{true}, hold{false};
  std::function<std::optional<core::Error>(const Request&)> judge;  ///< set before use; called under the lock

  core::awaitable<Result<Reply>> handle(Request request, core::CallContext context) override {
    std::optional<core::Error> error;
    {
      std::lock_guard lock(mutex_);
      ++calls_;
      if (!up) error = core::unavailable("RabbitMQ is down");
      else if (judge) error = judge(request);
      if (!error) arrived_.push_back(request.id.str()), last_ = request, hops_ = context.hops;
    }
    asio::steady_timer turn(co_await asio::this_coro::executor);
    do {  // confirms come later
      turn.expires_after(std::chrono::microseconds(hold ? 500 : 0));
      co_await turn.async_wait(asio::use_awaitable);
      if (context.expired() && !error) error = core::deadline_exceeded("no confirm"), error->sent = core::Sent::maybe;
      if (!up && !error) error = core::unavailable("RabbitMQ went away"), error->sent = core::Sent::maybe;
    } while (hold && !error);
    if (error) co_return *error;
    co_return Reply{.message = "queued", .way = "amqp"};
  }
  std::vector<std::string> arrived() const {
    std::lock_guard lock(mutex_);
    return arrived_;
  }
  std::size_t calls() const {
    std::lock_guard lock(mutex_);
    return calls_;
  }
  Request last() const {
    std::lock_guard lock(mutex_);
    return last_;
  }
  std::string hops() const {
    std::lock_guard lock(mutex_);
    return hops_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> arrived_;
  std::size_t calls_ = 0;
  Request last_;
  std::string hops_;
};

Request log_request(const std::string& id, std::optional<Ack> ack = Ack::accepted, const std::string& data = "data") {
  Request request;
  request.id = core::MessageId::parse(id).value();
  request.action = "log";
  request.payload = core::LogEntry{"test", data};
  request.ack = ack;
  return request;
}

std::vector<std::string> numbered(int from, int to) {
  std::vector<std::string> ids;
  for (int i = from; i < to; ++i) ids.push_back("m" + std::to_string(i));
  return ids;
}

class SpoolTest : public ::testing::Test {
 protected:
  SpoolTest() {
    std::string name = ::testing::TempDir() + "flexi-spool-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    options_.directory = folder_ + "/spool";
    options_.retry_delay = std::chrono::milliseconds(1);
    options_.max_retry_delay = std::chrono::milliseconds(5);
    options_.adopt_interval = std::chrono::milliseconds(5);
  }
  ~SpoolTest() override {
    queue_.hold = false;
    close();
    fs::remove_all(folder_);
  }
  std::unique_ptr<Spool> make(core::Handler& queue) { return Spool::open({shards_, runtime::LogSink::none(), metrics_}, options_, queue); }
  void open() { spool_ = make(queue_); }
  void stop(std::unique_ptr<Spool>& spool, std::chrono::milliseconds grace = std::chrono::seconds(5)) {
    if (spool) run(spool->stop({grace}));
    spool.reset();
  }
  void close() { stop(spool_); }

  template <class T>
  T run(asio::awaitable<T> work) {
    if constexpr (std::is_void_v<T>) {
      shards_.run(std::move(work));
    } else {
      std::optional<T> result;
      auto store = [](asio::awaitable<T> inner, std::optional<T>* out) -> asio::awaitable<void> { out->emplace(co_await std::move(inner)); };
      shards_.run(store(std::move(work), &result));
      return std::move(*result);
    }
  }
  Result<Reply> send(Request request) { return run(spool_->handle(std::move(request), core::CallContext::with_timeout(std::chrono::seconds(30)))); }
  void spool(int from, int to) {
    for (auto& id : numbered(from, to)) {
      auto reply = send(log_request(id));
      ASSERT_TRUE(reply) << reply.error().message;
      ASSERT_EQ(reply.value().way, "amqp;queue=spool") << id;
    }
  }
  template <class What>
  bool eventually(What what) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (std::chrono::steady_clock::now() < until) {
      if (what()) return true;
      std::this_thread::yield();
    }
    return false;
  }
  bool drained() {
    return eventually([&] { return spool_->status().messages == 0; });
  }
  std::optional<core::Receipt> find(const std::string& id) { return run(spool_->find_receipt(core::MessageId::parse(id).value(), {})).value(); }

  std::string folder_;
  SpoolOptions options_;
  runtime::Metrics metrics_;
  FakeQueue queue_;
  runtime::Shards shards_{2};
  std::unique_ptr<Spool> spool_;
};

TEST_F(SpoolTest, WhileAllIsWellItIsNotTouched) {
  open();
  for (auto& id : numbered(0, 50)) {
    auto reply = send(log_request(id));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply.value().way, "amqp");
  }
  EXPECT_EQ(queue_.arrived(), numbered(0, 50));
  EXPECT_EQ(metrics_.counter("flexi_spool_accepted_total", "").value(), 0);
  EXPECT_EQ(spool_->status().messages, 0);
}

TEST_F(SpoolTest, WhatComesDuringAnOutageFollowsInOrderAndNewOnesBehindIt) {
  open();
  queue_.up = false;
  spool(0, 300);
  EXPECT_EQ(spool_->status().messages, 300);
  queue_.hold = true;
  queue_.up = true;
  ASSERT_TRUE(eventually([&] { return !queue_.arrived().empty(); }));
  // RabbitMQ is back, and what waits is on its way: not a reason to overtake it.
  spool(300, 400);
  const auto before = queue_.arrived();
  EXPECT_EQ(before, numbered(0, static_cast<int>(before.size())));
  queue_.hold = false;
  ASSERT_TRUE(drained());
  ASSERT_TRUE(send(log_request("m400")));
  EXPECT_EQ(queue_.arrived(), numbered(0, 401));
}

TEST_F(SpoolTest, ABatchIsUnderWayAtOnce) {
  options_.batch = 64;
  open();
  queue_.up = false;
  spool(0, 200);
  queue_.up = true;
  ASSERT_TRUE(eventually([&] { return queue_.arrived().size() >= 2; }));
  queue_.hold = true;
  // One that probes, then a batch without waiting for its confirms, then none until they come.
  ASSERT_TRUE(eventually([&] { return queue_.arrived().size() >= 64; }));
  queue_.hold = false;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), numbered(0, 200));
}

TEST_F(SpoolTest, AMessageKeepsAllThatBelongsToIt) {
  open();
  queue_.up = false;
  auto context = core::CallContext::with_timeout(std::chrono::seconds(30));
  context.hops = "broker@1";
  auto request = log_request("m1");
  request.id_from_caller = true;
  request.accepted_at = core::Timestamp(std::chrono::microseconds(1'700'000'000'123'456));
  request.payload = core::LogEntry{"n\"ame", "ü\n\\"};
  ASSERT_TRUE(run(spool_->handle(request, context)));
  queue_.up = true;
  ASSERT_TRUE(drained());
  const auto got = queue_.last();
  EXPECT_EQ(got.id, request.id);
  EXPECT_EQ(got.action, "log");
  EXPECT_EQ(got.accepted_at, request.accepted_at);
  EXPECT_EQ(got.ack, Ack::accepted);
  EXPECT_TRUE(got.id_from_caller);
  EXPECT_TRUE(core::same_payload(got.payload, request.payload));
  EXPECT_EQ(queue_.hops(), "broker@1");
}

TEST_F(SpoolTest, StoredAndLogInsAndLateOnesAreNeverSpooled) {
  open();
  queue_.up = false;
  auto stored = send(log_request("s", Ack::stored));
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().kind, ErrorKind::unavailable);
  auto auth = log_request("a", Ack::stored);
  auth.action = "auth";
  auth.payload = core::Credentials{"me@example.com", "secret"};
  EXPECT_FALSE(send(auth));
  auth.action = "audit", auth.ack = Ack::accepted;  // whatever it is called
  EXPECT_FALSE(send(auth));
  EXPECT_FALSE(run(spool_->handle(log_request("late"), core::CallContext::with_timeout(std::chrono::milliseconds(0)))));
  EXPECT_EQ(spool_->status().messages, 0);
  spool(0, 1);
  queue_.hold = true, queue_.up = true;
  stored = send(log_request("s", Ack::stored));
  ASSERT_FALSE(stored) << "it would overtake";
  EXPECT_EQ(stored.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(stored.error().retry_after);
}

TEST_F(SpoolTest, TheStraightWayNeitherSpoolsNorOvertakes) {
  open();
  auto straight = [&](const std::string& id) { return run(spool_->straight().handle(log_request(id), core::CallContext::with_timeout(std::chrono::seconds(30)))); };
  ASSERT_TRUE(straight("m0"));
  queue_.up = false;
  EXPECT_EQ(straight("x").error().kind, ErrorKind::unavailable);
  EXPECT_EQ(spool_->status().messages, 0);
  spool(1, 2);
  queue_.hold = true, queue_.up = true;
  EXPECT_EQ(straight("x").error().kind, ErrorKind::unavailable);
  queue_.hold = false;
  ASSERT_TRUE(drained());
  ASSERT_TRUE(straight("m2"));
  EXPECT_EQ(queue_.arrived(), numbered(0, 3));
}

TEST_F(SpoolTest, AnOutageInTheMiddleOfABatchLosesNothingAndKeepsTheOrder) {
  options_.batch = 50;
  std::size_t seen = 0;
  queue_.judge = [&](const Request&) -> std::optional<core::Error> {
    if (++seen % 37 != 0) return std::nullopt;
    return core::unavailable("cut");
  };
  open();
  queue_.up = false;
  spool(0, 500);
  queue_.up = true;
  ASSERT_TRUE(drained());
  // What went out behind the one that failed goes again: each message's last arrival is in order, and none is missing.
  std::vector<std::string> last;
  std::set<std::string> known;
  const auto arrived = queue_.arrived();
  for (auto it = arrived.rbegin(); it != arrived.rend(); ++it)
    if (known.insert(*it).second) last.insert(last.begin(), *it);
  EXPECT_EQ(last, numbered(0, 500));
}

TEST_F(SpoolTest, AnOutageNeverMakesADeadLetter) {
  open();
  queue_.up = false;
  spool(0, 10);
  const auto before = queue_.calls();
  ASSERT_TRUE(eventually([&] { return queue_.calls() > before + 50; })) << "it is tried again and again";
  EXPECT_EQ(spool_->status().dead_letters, 0);
  EXPECT_EQ(spool_->status().messages, 10);
  queue_.up = true;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), numbered(0, 10));
}

TEST_F(SpoolTest, WhatTheQueueRefusesForGoodIsADeadLetterAndHoldsUpNobody) {
  std::atomic<bool> mended{false};
  queue_.judge = [&](const Request& request) -> std::optional<core::Error> {
    if (mended) return std::nullopt;
    if (request.id.str() == "m3") return core::invalid_argument("too long for RabbitMQ");
    if (request.id.str() == "m5") return core::internal("a bug");
    return std::nullopt;
  };
  open();
  queue_.up = false;
  spool(0, 8);
  queue_.up = true;
  ASSERT_TRUE(drained());
  EXPECT_EQ(spool_->status().dead_letters, 2);
  const auto arrived = queue_.arrived();
  EXPECT_EQ(std::set<std::string>(arrived.begin(), arrived.end()), (std::set<std::string>{"m0", "m1", "m2", "m4", "m6", "m7"}));
  auto page = run(spool_->list(10, "", {})).value();
  ASSERT_EQ(page.letters.size(), 2u);
  EXPECT_EQ(find("m3")->reason, "invalid_argument: too long for RabbitMQ");
  EXPECT_EQ(find("m3")->state, core::Receipt::State::dead_lettered);
  auto letter = run(spool_->get(core::MessageId::parse("m5").value(), {})).value();
  EXPECT_EQ(letter.reason, "internal: a bug");
  EXPECT_EQ(letter.attempts, 10u) << "a bug has some tries";
  EXPECT_EQ(letter.payload, R"({"name":"test","data":"data"})");
  mended = true;
  ASSERT_TRUE(run(spool_->replay(core::MessageId::parse("m3").value(), {})));
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived().back(), "m3");
  ASSERT_TRUE(run(spool_->discard(core::MessageId::parse("m5").value(), {})));
  EXPECT_EQ(run(spool_->discard(core::MessageId::parse("m5").value(), {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(spool_->status().dead_letters, 0);
  EXPECT_EQ(spool_->status().bytes, 0);
}

TEST_F(SpoolTest, AFrozenQueueIsWaitedForOnlySoLong) {
  options_.patience = std::chrono::milliseconds(20);
  open();
  queue_.hold = true;
  spool(0, 3);
  EXPECT_EQ(run(spool_->straight().handle(log_request("x"), {})).error().kind, ErrorKind::unavailable);
  queue_.hold = false;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), (std::vector<std::string>{"m0", "m0", "m1", "m2"})) << "it had taken the first one";
}

TEST_F(SpoolTest, OneActionsQueueHoldsUpNoOther) {
  queue_.judge = [&](const Request& request) -> std::optional<core::Error> {
    if (request.action == "mail") return core::unavailable("flexi.mail has other arguments");
    return std::nullopt;
  };
  open();
  queue_.up = false;
  spool(0, 3);
  auto mail = log_request("mail");
  mail.action = "mail";
  mail.payload = core::Mail{"", "you@example.com", "s", "m"};
  ASSERT_TRUE(send(mail));
  queue_.up = true;
  ASSERT_TRUE(eventually([&] { return spool_->status().messages == 1; }));
  auto reply = send(log_request("m3"));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply.value().way, "amqp") << "nothing of its action waits";
  EXPECT_EQ(queue_.arrived(), numbered(0, 4));
}

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

class SpoolCrashTest : public ::testing::Test {
 protected:
  SpoolCrashTest() {
    std::string name = ::testing::TempDir() + "flexi-spool-crash-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~SpoolCrashTest() override { fs::remove_all(folder_); }
  pid_t start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {FLEXI_CRASH_CHILD, folder_});
    std::vector<char*> argv;
    for (auto& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    pid_t pid = 0;
    EXPECT_EQ(::posix_spawn(&pid, FLEXI_CRASH_CHILD, nullptr, nullptr, argv.data(), environ), 0);
    return pid;
  }
  std::vector<std::string> lines(const char* name) const {
    std::ifstream file(folder_ + name);
    std::vector<std::string> all;
    for (std::string line; std::getline(file, line);)
      if (!file.eof()) all.push_back(line);
    return all;
  }
  void kill_when(pid_t pid, const char* file, std::size_t count) {
    while (lines(file).size() < count) {
      int status;
      ASSERT_EQ(::waitpid(pid, &status, WNOHANG), 0) << "the child ended by itself";
    }
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  std::string folder_;
};

TEST_F(SpoolCrashTest, KilledWhileItSpoolsAndWhileItDrainsItLosesNothingAndKeepsTheOrder) {
  for (int i = 0; i < 3; ++i) {
    const auto before = lines("/accepted").size();
    kill_when(start({"load", std::to_string(i * 1'000'000)}), "/accepted", before + 500);
  }
  for (int i = 0; i < 4; ++i) {
    const auto before = lines("/delivered").size();
    kill_when(start({"drain", "130"}), "/delivered", before + 150);
  }
  const auto last = start({"drain", "1000000000"});
  int status = -1;
  ::waitpid(last, &status, 0);
  EXPECT_EQ(status, 0);
  std::vector<int> first_arrivals;
  std::set<std::string> known;
  const auto delivered = lines("/delivered");
  for (auto& id : delivered)
    if (known.insert(id).second) first_arrivals.push_back(std::atoi(id.c_str() + 1));
  for (auto& id : lines("/accepted")) ASSERT_TRUE(known.contains(id)) << id << " was accepted and is lost";
  EXPECT_TRUE(std::is_sorted(first_arrivals.begin(), first_arrivals.end()));
  EXPECT_LT(delivered.size(), known.size() + 5 * 100) << "no more is sent twice than one batch a death";
}

}  // namespace
}  // namespace flexi::transports::spool
