// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "transports/json_codec.hpp"

// Whatever is read is written and read back as the same.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace flexi;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  for (auto action : {core::actions::kAuth, core::actions::kLog, core::actions::kMail, std::string_view("custom")}) {
    auto payload = transports::payload_from_json(action, json);
    if (!payload) continue;
    auto again = transports::payload_from_json(action, transports::payload_to_json(payload.value()));
    if (!again || !core::same_payload(payload.value(), again.value())) std::abort();
  }
  (void)transports::read_handle_body(json);
  (void)transports::read_log_body(json);
  (void)transports::read_envelope(json);
  return 0;
}
