// SPDX-License-Identifier: Apache-2.0
#include "transports/http/request_reader.hpp"

#include <boost/beast/http/error.hpp>

namespace flexi::transports::http {

namespace bhttp = boost::beast::http;

namespace {

/// How much one read may add; a chunk's header and the trailer must fit in it too.
constexpr std::size_t kReadBytes = 64 * 1024;

/// "0\r\n\r\n": no chunked body is shorter. Beast 1.81 asserts that it has seen as much when a first chunk that is also
/// the last comes in pieces, so it is not shown less.
constexpr std::size_t kLeastChunkedBytes = 5;

std::string_view why(const boost::system::error_code& ec) {
  if (ec == bhttp::error::bad_method) return "the method must be a token such as GET or POST";
  if (ec == bhttp::error::bad_target) return "the request target must hold printable ASCII only";
  if (ec == bhttp::error::bad_version) return "the version must be HTTP/1.0 or HTTP/1.1";
  if (ec == bhttp::error::bad_field) return "a header's name must be a token followed by a colon";
  if (ec == bhttp::error::bad_value) return "a header's value must not hold control characters";
  if (ec == bhttp::error::bad_content_length || ec == bhttp::error::multiple_content_length)
    return "Content-Length must be one number, and stand without Transfer-Encoding";
  if (ec == bhttp::error::bad_transfer_encoding) return "Transfer-Encoding must be chunked, without Content-Length";
  if (ec == bhttp::error::bad_chunk || ec == bhttp::error::bad_chunk_extension) return "the body's chunks are malformed";
  return "the request is not HTTP/1.1";
}

}  // namespace

RequestReader::RequestReader(const HttpServerOptions& options)
    : options_(options), buffer_(static_cast<std::size_t>(options.max_header_bytes) + kReadBytes) {}

RequestReader::Step RequestReader::refuse(int status, std::string_view problem) {
  status_ = status;
  problem_ = problem;
  return Step::malformed;
}

void RequestReader::next() {
  parser_.reset();
  scanner_.reset();
  has_head_ = has_body_ = false;
}

bool RequestReader::take_continue() { return has_head_ && std::exchange(head_.expects_continue, false); }

RequestReader::Step RequestReader::advance() {
  if (!has_head_) {
    const auto step = read_header();
    if (step != Step::complete) return step;
  }
  return read_body();
}

RequestReader::Step RequestReader::read_header() {
  auto bytes = [this] { return std::string_view(static_cast<const char*>(buffer_.data().data()), buffer_.size()); };
  // An empty line before a request is skipped. Source: RFC 9112 section 2.2
  if (!parser_)
    while (bytes().starts_with("\r\n")) buffer_.consume(2), scanner_.reset();
  if (bytes().empty() || bytes() == "\r") return Step::need_more;
  if (!parser_) parser_.emplace();
  switch (scanner_.scan(bytes())) {
    case HeaderScanner::Found::malformed: return refuse(400, scanner_.problem());
    case HeaderScanner::Found::nothing:
      if (buffer_.size() > static_cast<std::size_t>(options_.max_header_bytes)) return refuse(431, "the request's header is too large");
      return Step::need_more;
    case HeaderScanner::Found::end: break;
  }
  if (scanner_.header_size() > static_cast<std::size_t>(options_.max_header_bytes)) return refuse(431, "the request's header is too large");
  parser_->header_limit(static_cast<std::uint32_t>(options_.max_header_bytes) + 1024);
  parser_->body_limit(static_cast<std::uint64_t>(options_.max_body_bytes));
  parser_->eager(false);
  boost::system::error_code ec;
  const auto used = parser_->put(boost::asio::buffer(bytes().data(), scanner_.header_size()), ec);
  buffer_.consume(used);
  if (ec && ec != bhttp::error::body_limit && ec != bhttp::error::need_more) return refuse(400, why(ec));
  if (!parser_->is_header_done() && ec != bhttp::error::body_limit) return refuse(400, "the request is not HTTP/1.1");
  std::string_view problem;
  if (const int status = read_head(parser_->get(), head_, problem)) return refuse(status, problem);
  has_head_ = true;
  if (ec == bhttp::error::body_limit) return Step::too_large;
  parser_->eager(true);
  return Step::complete;
}

RequestReader::Step RequestReader::read_body() {
  while (!parser_->is_done()) {
    if (buffer_.size() == 0) return Step::need_more;
    if (!has_body_ && parser_->chunked() && buffer_.size() < kLeastChunkedBytes) return Step::need_more;
    has_body_ = true;
    boost::system::error_code ec;
    const auto used = parser_->put(buffer_.data(), ec);
    buffer_.consume(used);
    if (ec == bhttp::error::body_limit) return Step::too_large;
    if (ec && ec != bhttp::error::need_more) return refuse(400, why(ec));
    if (ec == bhttp::error::need_more && used == 0) {
      if (buffer_.size() > kReadBytes / 2) return refuse(400, "a chunk's header or the trailer is too large");
      return Step::need_more;
    }
  }
  return Step::complete;
}

}  // namespace flexi::transports::http
