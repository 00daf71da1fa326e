// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>

#include "core/handler.hpp"

namespace flexi::transports::http {

struct PeerHeader {
  std::string host;   ///< Host header
  std::string token;  ///< sent with what an administrator asks
};

/// Appends the whole HTTP request: `POST /log`, `/authenticate`, `/send`, or `/actions/<action>`.
void append_request(std::string& out, const PeerHeader& peer, const core::Request& request, const core::CallContext& context);

/// The peer's status and body as a Reply, or the Error it stands for.
core::Result<core::Reply> read_reply(const boost::beast::http::response<boost::beast::http::string_body>& message);
bool is_event_stream(const boost::beast::http::response<boost::beast::http::string_body>& message);
/// What a stream's header says; its events are not read yet.
core::Reply read_stream_head(const boost::beast::http::response<boost::beast::http::string_body>& message);

}  // namespace flexi::transports::http
