// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/result.hpp"

namespace flexi::apps::cli {

struct HttpCall {
  std::string method = "GET";
  std::string url;
  std::string body{};                  ///< JSON; sent when not empty
  std::vector<std::string> headers{};  ///< "Name: value"
  std::chrono::milliseconds timeout{10000};  ///< 0: none
};

struct HttpAnswer {
  long status = 0;
  std::string body;
  std::map<std::string, std::string> headers;  ///< names in lower case
};

/// One call by libcurl.
/// @return unavailable where the server can't be reached; an HTTP error is an answer
core::Result<HttpAnswer> call(const HttpCall& request);

/// The same, giving each line of the body as it comes, until the server ends it or `opened` or `line` returns false. The
/// body of an HTTP error is in the answer instead.
/// @param opened called once the server's answer has begun, before its first line
core::Result<HttpAnswer> call_lines(const HttpCall& request, std::function<bool()> opened, std::function<bool(std::string_view line)> line);

}  // namespace flexi::apps::cli
