// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>

#include "core/handler.hpp"

namespace flexi::transports::http {

struct PeerHeader {
  std::string host;      ///< Host header
  std::string token;     ///< sent with what an administrator asks
  std::string target{};  ///< of a foreign service: the one path that takes all; empty: a service of ours
  std::string process_key{};  ///< of a client of this process itself; empty: of another
  bool foreign() const { return !target.empty(); }
};

/// Appends the whole HTTP request: `POST /log`, `/authenticate`, `/send`, or `/actions/<action>`; to a foreign service
/// `POST <its path>`, always with Idempotency-Key, which is what others know.
void append_request(std::string& out, const PeerHeader& peer, const core::Request& request, const core::CallContext& context);

/// A foreign service's answer: the contract's envelope, or any JSON, which becomes `data`, or an empty body.
core::Result<core::Reply> read_foreign_reply(const boost::beast::http::response<boost::beast::http::string_body>& message);
/// The peer's status and body as a Reply, or the Error it stands for.
core::Result<core::Reply> read_reply(const boost::beast::http::response<boost::beast::http::string_body>& message);
bool is_event_stream(const boost::beast::http::response<boost::beast::http::string_body>& message);
/// What a stream's header says; its events are not read yet.
core::Reply read_stream_head(const boost::beast::http::response<boost::beast::http::string_body>& message);

}  // namespace flexi::transports::http
