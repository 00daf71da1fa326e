// SPDX-License-Identifier: Apache-2.0
#include "transports/http/response.hpp"

#include <charconv>
#include <ctime>

#include "transports/json_codec.hpp"

namespace flexi::transports::http {

namespace {

using core::ErrorKind;

constexpr std::pair<ErrorKind, int> kStatuses[] = {
    {ErrorKind::invalid_argument, 400}, {ErrorKind::unauthenticated, 401}, {ErrorKind::permission_denied, 403},
    {ErrorKind::not_found, 404},        {ErrorKind::conflict, 409},        {ErrorKind::overloaded, 429},
    {ErrorKind::unavailable, 503},      {ErrorKind::deadline_exceeded, 504}, {ErrorKind::cancelled, 499},
    {ErrorKind::unimplemented, 501},    {ErrorKind::internal, 500}};

constexpr std::pair<int, std::string_view> kReasons[] = {
    {200, "OK"}, {202, "Accepted"}, {204, "No Content"}, {304, "Not Modified"}, {400, "Bad Request"}, {401, "Unauthorized"},
    {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"},
    {413, "Content Too Large"}, {415, "Unsupported Media Type"}, {417, "Expectation Failed"}, {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"}, {499, "Client Closed Request"}, {500, "Internal Server Error"}, {501, "Not Implemented"},
    {503, "Service Unavailable"}, {504, "Gateway Timeout"}};

void append_number(std::string& out, std::size_t number) {
  char text[24];
  auto [end, ec] = std::to_chars(text, text + sizeof text, number);
  out.append(text, end);
}

}  // namespace

std::string_view reason_phrase(int status) {
  for (auto& [code, reason] : kReasons)
    if (code == status) return reason;
  return "Status";
}

int status_of(ErrorKind kind) {
  for (auto& [known, status] : kStatuses)
    if (known == kind) return status;
  return 500;
}

ErrorKind kind_of_status(int status) {
  for (auto& [kind, known] : kStatuses)
    if (known == status) return kind;
  if (status == 502) return ErrorKind::unavailable;
  if (status == 408) return ErrorKind::deadline_exceeded;
  if (status == 405) return ErrorKind::unimplemented;
  return status >= 400 && status < 500 ? ErrorKind::invalid_argument : ErrorKind::internal;
}

void append_response(std::string& out, const Answer& answer, Framing framing, std::string_view date) {
  if (answer.status == 200) {
    out += "HTTP/1.1 200 OK\r\n";
  } else if (answer.status == 202) {
    out += "HTTP/1.1 202 Accepted\r\n";
  } else {
    out += "HTTP/1.1 ";
    append_number(out, static_cast<std::size_t>(answer.status));
    out.append(" ").append(reason_phrase(answer.status)).append("\r\n");
  }
  out.append("Server: flexiconnect\r\nDate: ").append(date);
  if (!answer.no_content) {
    out.append("\r\nContent-Type: ").append(answer.content_type);
    if (!answer.streams) {
      out += "\r\nContent-Length: ";
      append_number(out, answer.body.size());
    }
  }
  out += "\r\n";
  out += answer.headers;
  if (!framing.keep_alive) out += "Connection: close\r\n";
  else if (framing.http_1_0) out += "Connection: keep-alive\r\n";
  out += "\r\n";
  if (!framing.head && !answer.no_content) out += answer.body;
}

std::string http_date() {
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[48];
  // Not strftime: its names depend on the locale.
  std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[utc.tm_wday], utc.tm_mday, kMonths[utc.tm_mon], utc.tm_year + 1900,
                utc.tm_hour, utc.tm_min, utc.tm_sec);
  return text;
}

Answer error_answer(const core::Error& error, int status) {
  Answer answer;
  answer.status = status;
  answer.header("X-Flexi-Error", core::to_string(error.kind));
  // Whether another way may be tried is known here, and asked by our own client only.
  if (error.sent == core::Sent::maybe) answer.header("X-Flexi-Sent", "maybe");
  if (error.retry_after || error.kind == ErrorKind::overloaded) {
    const auto seconds = (error.retry_after.value_or(std::chrono::seconds(1)).count() + 999) / 1000;
    answer.header("Retry-After", std::to_string(std::max<std::int64_t>(seconds, 1)));
  }
  if (status == 401) answer.header("WWW-Authenticate", "Bearer");
  append_envelope(answer.body, true, error.message, {}, {});
  return answer;
}

Answer refusal(int status, std::string_view message) {
  core::Error error;
  error.kind = kind_of_status(status);
  error.message = message;
  return error_answer(error, status);
}

}  // namespace flexi::transports::http
