// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "apps/cli/client_commands.hpp"
#include "apps/cli/http_call.hpp"

namespace flexi::apps::cli {

/// An answer with the contract's envelope.
struct Envelope {
  HttpAnswer answer;
  boost::json::object body;
  bool failed() const { return answer.status >= 400; }
  std::string message() const;
};

/// The administrator's token as a header; nothing where none is set.
core::Result<std::vector<std::string>> authorization(const Target& target);

/// One call of the target.
/// @param request its url is the path and query
/// @return unavailable where it can't be reached; internal where its answer is no JSON
core::Result<Envelope> exchange(const Target& target, HttpCall request);

/// The envelope of an answer that is there already.
/// @param url for the error
core::Result<Envelope> envelope_of(const std::string& url, HttpAnswer answer);

/// Tells of an error on standard error. @return the ExitCode for it
int report(const core::Error& error);
/// Tells what the server refused with. @return the ExitCode for it
int refused(const Envelope& envelope);

/// A field as text; "" where it is not there.
std::string text(const boost::json::object& object, const char* key);
/// Data of others on a terminal: control characters could drive it.
std::string printable(std::string_view data);
std::string url_encode(std::string_view value);

}  // namespace flexi::apps::cli
