// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <string_view>

#include "transports/http/head.hpp"
#include "transports/http/options.hpp"

namespace flexi::transports::http {

/// Bytes in, requests out; knows no socket.
class RequestReader {
 public:
  explicit RequestReader(const HttpServerOptions& options);

  enum class Step {
    need_more,  ///< read into buffer() and call again
    complete,   ///< head() and body() hold until next()
    too_large,  ///< the body is over the limit; head() holds
    malformed,  ///< status() and problem() say why; nothing after it can be understood
  };
  Step advance();
  /// Forgets the request that is complete.
  void next();

  boost::beast::flat_buffer& buffer() { return buffer_; }
  std::size_t buffered() const { return buffer_.size(); }
  const Head& head() const { return head_; }
  std::string_view body() const { return parser_->get().body(); }
  /// What has come of a body that is not complete yet.
  std::size_t body_bytes() const { return has_head_ ? parser_->get().body().size() : 0; }
  int status() const { return status_; }
  std::string_view problem() const { return problem_; }
  /// Between requests: nothing of the next one has come.
  bool idle() const { return !parser_ && buffer_.size() == 0; }
  bool in_body() const { return has_head_; }
  /// True once per request that waits for `100 Continue` before it sends its body.
  bool take_continue();

 private:
  Step refuse(int status, std::string_view problem);
  Step read_header();
  Step read_body();

  const HttpServerOptions& options_;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  HeaderScanner scanner_;
  Head head_;
  bool has_head_ = false, has_body_ = false;
  int status_ = 0;
  std::string_view problem_{};
};

}  // namespace flexi::transports::http
