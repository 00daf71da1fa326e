// SPDX-License-Identifier: Apache-2.0
// What spool_crash_test.cpp kills.
//   spool_crash_child FOLDER load FIRST   the queue is down: spools m<FIRST>, m<FIRST+1>, … one after the other; each that was
//                                         accepted is written to FOLDER/accepted
//   spool_crash_child FOLDER drain COUNT  the queue is up: each message that reaches it is written to FOLDER/delivered. It confirms
//                                         COUNT of them and is silent then; ends when nothing waits
#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <cstdlib>
#include <iostream>

#include "runtime/task_scope.hpp"
#include "transports/spool/spool.hpp"

namespace asio = boost::asio;
using namespace flexi;

namespace {

void note(int file, const std::string& id) {
  const auto line = id + "\n";
  if (::write(file, line.data(), line.size()) < 0) std::abort();
}

class Queue final : public core::Handler {
 public:
  Queue(int confirms, int file) : confirms_(confirms), file_(file) {}
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext) override {
    if (confirms_ == 0) co_return core::unavailable("down");
    note(file_, request.id.str());  // in the queue; the confirm comes later, or never
    const bool silent = ++arrived_ > confirms_;
    asio::steady_timer pause(co_await asio::this_coro::executor, silent ? std::chrono::hours(1) : std::chrono::microseconds(500));
    co_await pause.async_wait(asio::use_awaitable);
    co_return core::Reply{.message = "queued"};
  }

 private:
  const int confirms_;  ///< 0: it is down
  const int file_;
  int arrived_ = 0;
};

asio::awaitable<void> load(core::Handler* spool, int next, int file) {
  for (;; ++next) {
    core::Request request;
    request.id = core::MessageId::parse("m" + std::to_string(next)).value();
    request.action = "log";
    request.payload = core::LogEntry{"crash", std::to_string(next)};
    request.ack = core::Ack::accepted;
    auto id = request.id.str();
    auto reply = co_await spool->handle(std::move(request), {});
    if (reply) note(file, id);
  }
}

asio::awaitable<void> drained(transports::spool::Spool* spool) {
  while (spool->status().messages > 0) {
    asio::steady_timer pause(co_await asio::this_coro::executor, std::chrono::milliseconds(1));
    co_await pause.async_wait(asio::use_awaitable);
  }
}

}  // namespace

int main(int, char** argv) {
  const std::string folder = argv[1], mode = argv[2];
  const bool loading = mode == "load";
  const int file = ::open((folder + (loading ? "/accepted" : "/delivered")).c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  auto& log = runtime::LogSink::none();
  runtime::Metrics metrics;
  runtime::Shards shards(2);
  Queue queue(loading ? 0 : std::atoi(argv[3]), file);
  transports::spool::SpoolOptions options;
  options.directory = folder + "/spool";
  options.batch = 100;
  options.adopt_interval = std::chrono::milliseconds(10);
  auto spool = transports::spool::Spool::open({shards, log, metrics}, options, queue);
  if (loading) {
    runtime::TaskScope scope(shards.executor(1), "load", log);
    asio::post(shards.executor(1), [&] { scope.spawn(load(spool.get(), std::atoi(argv[3]), file)); });
    for (;;) ::pause();
  }
  shards.run(drained(spool.get()));
  shards.run(spool->stop({}));
  spool.reset();
  shards.join();
}
