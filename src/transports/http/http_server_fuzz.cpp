// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>

#include "transports/http/dispatcher.hpp"
#include "transports/http/request_reader.hpp"

namespace {

using namespace flexi;
using namespace flexi::transports::http;

class Nothing final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request, core::CallContext) override { co_return core::Reply{}; }
};

/// All the answers to `bytes` when they arrive in pieces of at most `piece`.
std::string answers(const Dispatcher& dispatcher, const HttpServerOptions& options, std::string_view bytes, std::size_t piece) {
  RequestReader reader(options);
  std::string out;
  const auto peer = boost::asio::ip::make_address("127.0.0.1");
  for (;;) {
    switch (reader.advance()) {
      case RequestReader::Step::complete: {
        const auto plan = dispatcher.plan(reader.head(), reader.body(), peer);
        // Neither the id nor the time is the same twice: the status is.
        out += plan.answer ? std::to_string(plan.answer->status) : plan.action;
        if (plan.answer && plan.answer->status >= 500 && plan.answer->status != 503) std::abort();
        out += '\n';
        reader.next();
        continue;
      }
      case RequestReader::Step::too_large: return out + std::to_string(dispatcher.too_large(reader.head()).status);
      case RequestReader::Step::malformed: return out + std::to_string(reader.status());
      case RequestReader::Step::need_more: break;
    }
    if (bytes.empty()) return out + "end";
    const auto size = std::min(piece, bytes.size());
    const auto room = reader.buffer().prepare(size);
    std::copy_n(bytes.data(), size, static_cast<char*>(room.data()));
    reader.buffer().commit(size);
    bytes.remove_prefix(size);
  }
}

}  // namespace

// However the bytes are cut into pieces, the server understands the same.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static runtime::Metrics metrics;
  static runtime::Readiness readiness;
  static runtime::Shards shards(1);
  static Nothing nothing;
  static HttpServerOptions options = [] {
    HttpServerOptions o;
    o.max_body_bytes = 4096;
    o.max_header_bytes = 2048;
    return o;
  }();
  static const Dispatcher dispatcher(options, {{metrics, readiness, runtime::LogSink::none(), shards, "token"}, &nothing, &nothing, {}}, "127.0.0.1");
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto whole = answers(dispatcher, options, bytes, 16 * 1024);
  for (std::size_t piece : {1, 7})
    if (answers(dispatcher, options, bytes, piece) != whole) std::abort();
  return 0;
}
