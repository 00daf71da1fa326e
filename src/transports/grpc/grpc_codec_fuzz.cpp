// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "transports/grpc/bulk.hpp"
#include "transports/grpc/codec.hpp"

// Whatever is read of a stranger is written and read back as the same; what a peer answers is read or refused.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace flexi;
  using namespace flexi::transports::grpc;
  silence_protobuf();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  v1::HandleRequest handle;
  if (parse(handle, bytes))
    if (auto call = take_handle(handle)) {
      v1::CallRequest again;
      const auto action = call.value().request.action;
      if (std::holds_alternative<core::Json>(call.value().request.payload)) {
        if (!parse(again, write_request(call.value().request))) std::abort();
        auto back = take_call(again);
        if (!back || back.value().action != action || !core::same_payload(back.value().payload, call.value().request.payload)) std::abort();
      }
    }
  (void)read_numbered_request(bytes);
  (void)read_numbered_log(bytes);
  v1::Reply reply;
  if (parse(reply, bytes)) {
    auto read = take_reply(reply);
    if (read) write_reply(reply, std::move(read.value()), "id", core::actions::kAuth);
  }
  ClientResult result;
  result.status = {Code::internal, "x", std::string(bytes)};
  (void)error_from(result);
  return 0;
}
