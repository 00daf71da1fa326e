// SPDX-License-Identifier: Apache-2.0
#include "scripted_service.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "runtime/completion.hpp"
#include "runtime/json.hpp"

namespace flexi::grpc_tests {

namespace actions = core::actions;
namespace asio = boost::asio;
using core::Reply;
using core::Request;
using core::Result;
using namespace std::chrono_literals;

namespace {

class Events final : public core::EventStream {
 public:
  Events(bool endless, std::atomic<int>& open) : endless_(endless), open_(open) { ++open_; }
  ~Events() override { --open_; }
  core::awaitable<Result<std::optional<std::string>>> next(core::CallContext) override {
    if (!endless_ && sent_ == 3) co_return std::optional<std::string>();
    asio::steady_timer timer(co_await asio::this_coro::executor, 2ms);
    boost::system::error_code cancelled;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
    // As sources that wait for others' answers say it.
    if (cancelled) co_return runtime::cancelled_error(core::Sent::maybe);
    co_return std::optional("{\"n\":" + std::to_string(++sent_) + "}");
  }

 private:
  const bool endless_;
  std::atomic<int>& open_;
  int sent_ = 0;
};

std::string how_it_arrived(const Request& request, const core::CallContext& context) {
  runtime::JsonWriter json;
  json.begin_object().field("id", request.id.str()).field("id_from_caller", request.id_from_caller).field("via", core::to_string(request.via));
  json.field("ack", request.ack ? core::to_string(*request.ack) : "").field("caller", context.caller).field("hops", context.hops);
  json.field("trace", context.trace.to_traceparent()).field("remaining_ms", context.has_deadline() ? context.remaining().count() : -1);
  if (auto* payload = std::get_if<core::Json>(&request.payload)) json.key("payload").raw(payload->text);
  return json.end_object().take();
}

Result<Reply> log_in(const core::Credentials& credentials) {
  if (credentials.email != "a@b.example" || credentials.password != "right") return core::unauthenticated("invalid credentials");
  Reply reply;
  reply.message = "Logged in user a@b.example";
  reply.data = R"({"id":7,"email":"a@b.example","first_name":"Ann","active":1,"created_at":"2026-11-24T09:30:00.123456Z","updated_at":"1969-12-31T23:59:59.500000Z"})";
  return reply;
}

}  // namespace

core::awaitable<Result<Reply>> ScriptedService::handle(Request request, core::CallContext context) {
  const auto action = request.action;
  Reply reply;
  if (action == actions::kLog) {
    if (std::get<core::LogEntry>(request.payload).name == "wait") co_return co_await wait();
    co_return log(request);
  }
  if (action == actions::kAuth) co_return log_in(std::get<core::Credentials>(request.payload));
  if (action == actions::kMail) {
    reply.message = "sent to " + std::get<core::Mail>(request.payload).to;
    co_return reply;
  }
  if (action == "echo" || action == actions::kLogsList) {
    reply.message = "echoed";
    reply.data = how_it_arrived(request, context);
    co_return reply;
  }
  if (action == actions::kLogsTail) {
    reply.message = "ok";
    reply.events = std::make_unique<Events>(std::get<core::Json>(request.payload).text.find("endless") != std::string::npos, tails_);
    co_return reply;
  }
  if (action == "counts") {
    reply.message = "ok";
    reply.data = "{\"waiting\":" + std::to_string(waiting_) + ",\"cancelled\":" + std::to_string(cancelled_) + ",\"tails\":" + std::to_string(tails_) + "}";
    co_return reply;
  }
  if (action == "wait") co_return co_await wait();
  if (action == "throw") throw std::runtime_error("secret words");
  for (auto kind : core::kAllErrorKinds) {
    if (action != core::to_string(kind)) continue;
    core::Error error{.kind = kind, .message = "message of " + action + " in UTF-8: \xc3\xa9", .detail = "secret detail"};
    if (kind == core::ErrorKind::overloaded) error.retry_after = 3s;
    if (kind == core::ErrorKind::unavailable) error.sent = core::Sent::maybe;
    co_return error;
  }
  co_return core::unimplemented("unknown action");
}

Result<Reply> ScriptedService::log(const Request& request) {
  std::lock_guard lock(mutex_);
  const auto [place, added] = logs_.try_emplace(request.id.str(), request.payload);
  if (!added && !core::same_payload(place->second, request.payload)) return core::conflict("this id stands for another entry");
  Reply reply;
  reply.message = "logged";
  reply.duplicate = !added;
  return reply;
}

core::awaitable<Result<Reply>> ScriptedService::wait() {
  co_await asio::this_coro::throw_if_cancelled(false);
  asio::steady_timer timer(co_await asio::this_coro::executor, 60s);
  ++waiting_;
  boost::system::error_code ignored;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  --waiting_;
  ++cancelled_;
  co_return core::cancelled("cancelled");
}

}  // namespace flexi::grpc_tests
