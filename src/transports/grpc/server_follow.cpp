// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/server_follow.hpp"

namespace flexi::transports::grpc {

namespace {

/// How long one look for an event takes; the connection's own pings tell whether the caller lives.
constexpr std::chrono::minutes kLook{1};

core::awaitable<core::Result<void>> write_reply_first(ServerCall& call, core::Reply reply, const Asking& asking) {
  v1::FollowReply message;
  write_reply(*message.mutable_reply(), std::move(reply), asking.id, asking.action);
  co_return co_await call.write(message.SerializeAsString());
}

}  // namespace

core::awaitable<Status> run_follow(const Surface& surface, ServerCall& call) {
  Asking asking;
  asking.trace = call.context().trace;
  auto bytes = co_await call.read();
  if (!bytes) co_return to_status(bytes.error());
  if (!bytes.value()) co_return status_with_details(core::invalid_argument("no request came"));
  v1::CallRequest proto;
  if (auto read = parse(proto, *bytes.value()); !read) co_return status_with_details(read.error());
  auto request = take_call(proto);
  if (!request) co_return status_with_details(request.error());
  asking.action = request.value().action;
  auto context = call.context();
  const auto side = surface.side_of(surface.services ? Side::services : Side::broker, asking.action);
  if (auto understood = read_metadata(call, surface.trust, side, {}, request.value(), context); !understood)
    co_return refuse(surface, call, asking, understood.error());
  asking.id = request.value().id.str();
  auto reply = co_await surface.handler(side, asking.action).handle(std::move(request.value()), std::move(context));
  if (!reply) co_return refuse(surface, call, asking, reply.error());
  auto events = std::move(reply.value().events);
  if (auto written = co_await write_reply_first(call, std::move(reply.value()), asking); !written) co_return to_status(written.error());
  while (events) {
    auto look = call.context().limited_to(kLook);
    auto event = co_await events->next(look);
    // A source may call a cancelled wait late: what was cancelled is not asked again.
    if ((co_await boost::asio::this_coro::cancellation_state).cancelled() != boost::asio::cancellation_type::none) co_return Status{Code::cancelled, "the call was cancelled", {}};
    if (!event && event.error().kind == core::ErrorKind::deadline_exceeded && !call.context().expired()) continue;
    if (!event) co_return refuse(surface, call, asking, event.error());
    if (!event.value()) break;
    v1::FollowReply message;
    message.set_event(std::move(*event.value()));
    if (auto written = co_await call.write(message.SerializeAsString()); !written) co_return to_status(written.error());
  }
  // A source that a stopping process has closed: there is more elsewhere, or later.
  if (surface.process.readiness.draining()) co_return status_with_details(core::unavailable("the server is stopping"));
  co_return Status();
}

}  // namespace flexi::transports::grpc
