// SPDX-License-Identifier: Apache-2.0
#include "mongo_under_test.hpp"

#include <boost/asio/use_future.hpp>
#include <future>

#include "stores/mongo/log_store.hpp"
#include "stores/mongo/server.hpp"
#include "tests/support/mongo_gate.hpp"
#include "tests/support/mongodb.hpp"

namespace flexi::conformance {
namespace {

using stores::mongo::MongoLogStore;

class MongoUnderTest final : public StoreUnderTest {
 public:
  explicit MongoUnderTest(std::filesystem::path folder) : database_(folder.filename().string()) {}
  ~MongoUnderTest() override {
    if (!gate_) return;  // never opened in this process
    gate_->heal();
    options_.uri = flexi::testing::MongoDb::url();
    options_.database = database_;
    stores::mongo::Bson drop;
    drop.small_integer("dropDatabase", 1);
    auto server = stores::mongo::Server::make(options_);
    if (server) (void)server.value()->session().command(drop);
  }

  core::Result<void> open() override {
    // Not before: the suite forks while it has one thread.
    if (!gate_) gate_ = std::make_unique<flexi::testing::MongoGate>(flexi::testing::MongoDb::host(), flexi::testing::MongoDb::port());
    options_.uri = flexi::testing::MongoDb::url_through(gate_->port(), spoilt_ ? std::optional<std::string>("wrong") : std::nullopt);
    options_.database = database_;
    options_.write_connections = 1;
    options_.queue_limit = kQueueLimit;
    FLEXI_TRY(logs_, MongoLogStore::open(options_, runtime::LogSink::none(), metrics_));
    return logs_->wait_until_ready(spoilt_ ? std::chrono::seconds(2) : std::chrono::seconds(20));
  }
  void close() override { logs_.reset(); }
  core::LogStore& logs() override { return *logs_; }

  // What a server with a full disk says. Source: https://www.mongodb.com/docs/manual/reference/error-codes/
  void refuse_writes() override {
    gate_->answer("insert", options_.collection, R"({"ok": 0.0, "code": 14031, "codeName": "OutOfDiskSpace", "errmsg": "available disk space is too low"})");
  }
  void allow_writes() override { gate_->heal(); }
  void spoil() override { spoilt_ = true; }  // a wrong password

  void with_full_queue(const std::function<void()>& while_full) override { with_waiting(kQueueLimit, while_full); }
  void with_busy_writer(const std::function<void()>& while_busy) override { with_waiting(0, while_busy); }

 private:
  static constexpr std::size_t kQueueLimit = 64;
  static core::awaitable<void> write(core::LogStore& logs) {
    (void)co_await logs.append({core::MessageId::generate(), "waiting", "", {}, {}}, core::CallContext{});
  }
  /// While one write lasts and so many wait behind it.
  void with_waiting(std::size_t count, const std::function<void()>& meanwhile) {
    // Never destroyed: the store's threads may still be on their way out of their last post.
    static auto& waiting = *new runtime::Shards(1);
    gate_->hold("insert", options_.collection);
    std::vector<std::future<void>> callers;
    const auto add = [&] { callers.push_back(boost::asio::co_spawn(waiting.executor(0), write(*logs_), boost::asio::use_future)); };
    add();
    gate_->wait_until_held(1);
    for (std::size_t i = 0; i < count; ++i) add();
    // Behind the last of them on the same thread: by now all are in the queue.
    std::promise<void> queued;
    boost::asio::post(waiting.executor(0), [&] { queued.set_value(); });
    queued.get_future().wait();
    meanwhile();
    gate_->release();
    for (auto& caller : callers) caller.get();
    remove_waiting();
  }
  /// They were there to wait, not to be counted.
  void remove_waiting() {
    stores::mongo::Bson filter;
    filter.text("name", "waiting");
    auto server = stores::mongo::Server::make(options_);
    ASSERT_TRUE(server);
    ASSERT_TRUE(server.value()->session().remove(options_.collection, filter));
  }

  const std::string database_;
  bool spoilt_ = false;
  runtime::Metrics metrics_;
  stores::mongo::MongoOptions options_;
  std::unique_ptr<flexi::testing::MongoGate> gate_;
  std::unique_ptr<MongoLogStore> logs_;
};

}  // namespace

std::unique_ptr<StoreUnderTest> make_mongo_under_test(std::filesystem::path folder) { return std::make_unique<MongoUnderTest>(std::move(folder)); }
std::optional<std::string> missing_mongo() { return flexi::testing::MongoDb::missing(); }

}  // namespace flexi::conformance
