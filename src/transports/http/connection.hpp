// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <optional>
#include <string>
#include <vector>

#include "transports/http/dispatcher.hpp"
#include "transports/http/request_reader.hpp"
#include "transports/http/server_shard.hpp"

namespace flexi::transports::http {

/// One client's connection: reads, lets the dispatcher plan, runs handlers, answers in order. What is in the buffer is
/// answered by one write; only then more is read.
/// Lifetime/threads: the shard's thread; lives in the coroutine that runs it
class Connection {
 public:
  Connection(ServerShard& shard, boost::asio::ip::tcp::socket socket, boost::asio::cancellation_signal& signal);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { shard_.hold(held_bytes_, 0); }

  boost::asio::awaitable<void> run();
  /// Called every tick: enforces the time-outs, the deadlines and the stop.
  void tick(ServerShard::Clock::time_point now);

 private:
  using Time = ServerShard::Clock::time_point;
  enum class Phase { idle, reading, handling, streaming, writing, closing };
  enum class Cancelled { no, deadline, gone, stopping };

  /// A call that a handler runs.
  struct Call {
    boost::asio::cancellation_signal* signal = nullptr;  ///< while it runs
    Time deadline{};
    Cancelled cancelled = Cancelled::no;
  };
  /// One of several pipelined calls that run side by side.
  struct ParallelCall {
    Plan plan;
    Framing framing;
    Call call;
    std::optional<core::Result<core::Reply>> result{};
  };

  boost::asio::awaitable<bool> read_more();
  bool flush_at_once();
  bool batch_is_full();
  boost::asio::awaitable<bool> flush();
  boost::asio::awaitable<bool> answer_request(Plan plan, Framing framing);
  boost::asio::awaitable<void> run_parallel();
  boost::asio::awaitable<void> run_one(ParallelCall* parallel, boost::asio::cancellation_signal* signal);
  boost::asio::awaitable<void> invoke(Plan* plan, Call* call, std::optional<core::Result<core::Reply>>* result);
  boost::asio::awaitable<void> stream(core::EventStream& events, core::CallContext context);
  boost::asio::awaitable<void> linger();
  void append(const Answer& answer, Framing framing);
  void cancel(Call& call, Cancelled why);
  Framing framing_now(const Head& head) const;
  bool hold_body();
  bool peer_reset() const;
  bool peer_ended() const;
  void enter(Phase phase, std::chrono::milliseconds limit) { phase_ = phase, phase_end_ = shard_.now() + limit; }

  ServerShard& shard_;
  const HttpServerOptions& options_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::cancellation_signal& signal_;
  boost::asio::ip::address peer_;
  RequestReader reader_;
  std::size_t held_bytes_ = 0;  ///< of the body that comes; kept while its request is handled
  std::string out_;
  std::int64_t batched_ = 0;
  std::vector<std::unique_ptr<ParallelCall>> parallel_;
  Call call_;
  Phase phase_ = Phase::idle;
  Time phase_end_{};
  bool timed_out_ = false, close_ = false, reading_body_ = false;
};

}  // namespace flexi::transports::http
