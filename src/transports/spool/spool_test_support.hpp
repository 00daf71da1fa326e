// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <filesystem>
#include <set>
#include <thread>

#include "transports/spool/spool.hpp"

namespace flexi::transports::spool::testing {

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

inline Request log_request(const std::string& id, std::optional<Ack> ack = Ack::accepted, const std::string& data = "data") {
  Request request;
  request.id = core::MessageId::parse(id).value();
  request.action = "log";
  request.payload = core::LogEntry{"test", data};
  request.ack = ack;
  return request;
}

inline std::vector<std::string> numbered(int from, int to) {
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
  core::LedgerLine account() {
    auto lines = run(spool_->accounts({})).value().at(0).lines;
    return lines.empty() ? core::LedgerLine{} : lines.at(0);
  }
  std::optional<core::Receipt> find(const std::string& id) { return run(spool_->find_receipt(core::MessageId::parse(id).value(), {})).value(); }

  std::string folder_;
  SpoolOptions options_;
  runtime::Metrics metrics_;
  FakeQueue queue_;
  runtime::Shards shards_{2};
  std::unique_ptr<Spool> spool_;
};

}  // namespace flexi::transports::spool::testing
