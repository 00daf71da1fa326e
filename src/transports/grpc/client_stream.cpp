// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/client_stream.hpp"

namespace flexi::transports::grpc {

namespace {

class Stream final : public ClientStream {
 public:
  explicit Stream(CallHold call) : call_(std::move(call)) {}

  core::awaitable<core::Result<void>> write(std::string message) override { return call_->write(std::move(message)); }
  void close_send() override { call_->close_send(); }
  core::awaitable<core::Result<std::optional<std::string>>> read() override { return call_->read(); }
  core::awaitable<core::Result<void>> wait_for_headers() override { return call_->wait_for_headers(); }
  void cancel() override { call_->give_up({Code::cancelled, "the call was cancelled", {}}); }
  core::awaitable<ClientResult> finish() override {
    call_->drop_messages();
    co_await call_->wait_until_done();
    co_return call_->result();
  }

 private:
  CallHold call_;
};

}  // namespace

std::unique_ptr<ClientStream> make_client_stream(CallHold call) { return std::make_unique<Stream>(std::move(call)); }

}  // namespace flexi::transports::grpc
