// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/http_call.hpp"

#include <curl/curl.h>

#include <cstdlib>
#include <memory>

namespace flexi::apps::cli {

namespace {

struct Sink {
  HttpAnswer answer;
  std::string partial_line;
  std::function<bool()> opened;
  std::function<bool(std::string_view)> line;
  bool streams() const { return line && answer.status < 400; }
};

std::size_t take_body(char* data, std::size_t, std::size_t size, void* user) {
  auto& sink = *static_cast<Sink*>(user);
  if (!sink.streams()) {
    sink.answer.body.append(data, size);
    return size;
  }
  sink.partial_line.append(data, size);
  for (std::size_t end; (end = sink.partial_line.find('\n')) != std::string::npos; sink.partial_line.erase(0, end + 1))
    if (!sink.line(std::string_view(sink.partial_line).substr(0, end))) return 0;  // 0: curl ends the transfer
  return size;
}

std::size_t take_header(char* data, std::size_t, std::size_t size, void* user) {
  auto& sink = *static_cast<Sink*>(user);
  std::string_view text(data, size);
  if (text.starts_with("HTTP/")) {
    const auto space = std::min(text.find(' '), text.size());
    sink.answer.status = std::strtol(std::string(text.substr(space)).c_str(), nullptr, 10);
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  if (const auto colon = text.find(':'); colon != text.npos) {
    std::string name(text.substr(0, colon));
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    auto value = text.substr(colon + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    sink.answer.headers[std::move(name)] = std::string(value);
  }
  // The empty line ends the head. 0: curl ends the transfer.
  if (text.empty() && sink.streams() && sink.answer.status >= 200 && !sink.opened()) return 0;
  return size;
}

core::Result<HttpAnswer> perform(const HttpCall& request, Sink& sink) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) return core::internal("libcurl can't be started");
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> handle(curl_easy_init(), curl_easy_cleanup);
  curl_slist* list = nullptr;
  for (auto& header : request.headers) list = curl_slist_append(list, header.c_str());
  if (!request.body.empty()) list = curl_slist_append(list, "Content-Type: application/json");
  list = curl_slist_append(list, "Expect:");
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list, curl_slist_free_all);
  char message[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(handle.get(), CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(handle.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle.get(), CURLOPT_ERRORBUFFER, message);
  curl_easy_setopt(handle.get(), CURLOPT_CUSTOMREQUEST, request.method.c_str());
  if (!request.body.empty() || request.method == "POST") {
    curl_easy_setopt(handle.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(handle.get(), CURLOPT_POSTFIELDS, request.body.c_str());
  }
  curl_easy_setopt(handle.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(handle.get(), CURLOPT_CONNECTTIMEOUT_MS, 3000L);
  curl_easy_setopt(handle.get(), CURLOPT_TCP_KEEPALIVE, 1L);  // a stream may be silent for long: is its server still there?
  curl_easy_setopt(handle.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
  curl_easy_setopt(handle.get(), CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(handle.get(), CURLOPT_WRITEDATA, &sink);
  curl_easy_setopt(handle.get(), CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(handle.get(), CURLOPT_HEADERDATA, &sink);
  const CURLcode code = curl_easy_perform(handle.get());
  curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &sink.answer.status);
  if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && sink.streams())) return std::move(sink.answer);
  return core::unavailable(request.url + ": " + (*message ? message : curl_easy_strerror(code)));
}

}  // namespace

core::Result<HttpAnswer> call(const HttpCall& request) {
  Sink sink;
  return perform(request, sink);
}

core::Result<HttpAnswer> call_lines(const HttpCall& request, std::function<bool()> opened, std::function<bool(std::string_view)> line) {
  Sink sink;
  sink.opened = std::move(opened);
  sink.line = std::move(line);
  return perform(request, sink);
}

}  // namespace flexi::apps::cli
