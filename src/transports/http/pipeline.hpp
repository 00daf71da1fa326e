// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <deque>
#include <memory>
#include <string>

#include "core/reply.hpp"
#include "runtime/completion.hpp"
#include "runtime/task_scope.hpp"
#include "transports/http/deadlines.hpp"
#include "transports/http/options.hpp"

namespace flexi::transports::http {

/// One connection down which requests go without waiting for each other's answers; what is asked for in one turn of
/// the loop is one write. For requests that may be doubled only: what a broken pipeline did is not known.
/// Source: RFC 9112 section 9.3.2
/// Lifetime/threads: the shard's thread; `scope` runs the reader and is joined before this ends
class Pipeline {
 public:
  using Endpoint = boost::asio::ip::tcp::endpoint;

  Pipeline(runtime::TaskScope& scope, const HttpClientOptions& options, Deadlines& deadlines, Endpoint endpoint);

  /// @param connected set false where the address could not be reached: another may be tried
  core::awaitable<core::Result<core::Reply>> call(std::string wire, core::CallContext context, bool& connected);
  /// Ends the connection; calls that wait fail.
  void close();
  const Endpoint& endpoint() const { return endpoint_; }
  bool idle() const { return !running_; }

 private:
  using Answered = std::shared_ptr<runtime::Completion<core::Reply>>;
  struct Waiting {
    Answered answered;
    std::shared_ptr<bool> connected;
    Deadlines::Clock::time_point deadline;
  };

  boost::asio::awaitable<void> run();
  boost::asio::awaitable<void> read_answers();
  boost::asio::awaitable<void> write_loop();
  void flush();
  void fail_all(const core::Error& error, bool connected, core::Sent in_flight);
  std::size_t unsent() const { return waiting_.size() - sent_; }

  runtime::TaskScope& scope_;
  const HttpClientOptions& options_;
  Deadlines& deadlines_;
  Endpoint endpoint_;
  boost::asio::ip::tcp::socket socket_;
  std::string pending_, writing_;
  std::deque<Waiting> waiting_;  ///< in the order of their requests
  std::size_t sent_ = 0;         ///< how many of them have been handed to a write
  bool running_ = false, connected_ = false, flushing_ = false, posted_ = false, closed_ = false;
};

}  // namespace flexi::transports::http
