// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/gzip.hpp"

#include <zlib.h>

#include <algorithm>

namespace flexi::transports::grpc {

namespace {
constexpr int kGzip = 15 + 16;  // the largest window, gzip's header and trailer
Bytef* in_of(std::string_view bytes) { return reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data())); }
}  // namespace

std::string gzip(std::string_view bytes) {
  z_stream z{};
  // Level 1: between processes of one data centre time counts more than the last byte.
  deflateInit2(&z, 1, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&z, bytes.size()), '\0');
  z.next_in = in_of(bytes);
  z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

core::Result<std::string> gunzip(std::string_view bytes, std::size_t max_bytes) {
  z_stream z{};
  inflateInit2(&z, kGzip);
  z.next_in = in_of(bytes);
  z.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  int rc = Z_OK;
  while (rc == Z_OK && out.size() <= max_bytes) {
    const auto before = out.size();
    out.resize(std::min(std::max(before * 2, std::max<std::size_t>(bytes.size() * 4, 1024)), max_bytes + 1));
    z.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    z.avail_out = static_cast<uInt>(out.size() - before);
    rc = inflate(&z, Z_NO_FLUSH);
    out.resize(out.size() - z.avail_out);
    if (rc == Z_OK && z.avail_in == 0 && z.avail_out != 0) rc = Z_BUF_ERROR;  // it ends too early
  }
  const bool rest = z.avail_in != 0;
  inflateEnd(&z);
  if (out.size() > max_bytes) return core::overloaded("a message of more than " + std::to_string(max_bytes) + " bytes when unpacked is over the limit");
  if (rc != Z_STREAM_END || rest) return core::internal("a message could not be unpacked");
  return out;
}

}  // namespace flexi::transports::grpc
