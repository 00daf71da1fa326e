// SPDX-License-Identifier: Apache-2.0
// The unary methods: bytes to a Request, to a Handler, and back.
#include <utility>

#include "logs.pb.h"
#include "transports/grpc/bulk.hpp"
#include "transports/grpc/server_follow.hpp"
#include "transports/grpc/health.hpp"
#include "transports/grpc/reflection.hpp"
#include "transports/grpc/surface.hpp"

namespace flexi::transports::grpc {

namespace actions = core::actions;

namespace {

struct Message {
  core::Request request{};
  OwnWords own{};
};
using ReadMessage = core::Result<Message> (*)(std::string_view bytes);
using WriteAnswer = std::string (*)(ServerCall& call, core::Reply reply, const Asking& asking);

template <class Proto>
Proto& reused() {
  thread_local Proto message;  // read and emptied before anything suspends
  message.Clear();
  return message;
}

core::Result<Message> read_handle(std::string_view bytes) {
  auto& proto = reused<v1::HandleRequest>();
  FLEXI_TRY(parse(proto, bytes));
  FLEXI_TRY(auto call, take_handle(proto));
  return Message{std::move(call.request), {call.has_via, std::move(call.id)}};
}

template <class Proto>
core::Result<Message> read_payload(std::string_view bytes, std::string_view action) {
  auto& proto = reused<Proto>();
  FLEXI_TRY(parse(proto, bytes));
  Message message;
  message.request.action = action;
  FLEXI_TRY(message.request.payload, take_payload(proto));
  return message;
}

core::Result<Message> read_log(std::string_view bytes) { return read_payload<v1::LogEntry>(bytes, actions::kLog); }
core::Result<Message> read_mail(std::string_view bytes) { return read_payload<v1::Email>(bytes, actions::kMail); }

core::Result<Message> read_credentials(std::string_view bytes) {
  v1::Credentials proto;  // of its own: a password is not kept
  FLEXI_TRY(parse(proto, bytes));
  Message message;
  message.request.action = actions::kAuth;
  FLEXI_TRY(message.request.payload, take_payload(proto));
  return message;
}

core::Result<Message> read_call(std::string_view bytes) {
  v1::CallRequest proto;
  FLEXI_TRY(parse(proto, bytes));
  FLEXI_TRY(auto request, take_call(proto));
  return Message{std::move(request), {}};
}

core::Result<Message> read_log_request(std::string_view bytes) {
  auto& proto = reused<::logs::LogRequest>();
  FLEXI_TRY(parse(proto, bytes));
  auto& entry = *proto.mutable_logentry();
  if ((entry.name() + entry.data()).find('\0') != std::string::npos) return core::invalid_argument("logEntry must not hold a NUL character");
  Message message;
  message.request.action = actions::kLog;
  message.request.payload = core::LogEntry{std::move(*entry.mutable_name()), std::move(*entry.mutable_data())};
  return message;
}

std::string write_own_reply(ServerCall&, core::Reply reply, const Asking& asking) {
  auto& proto = reused<v1::Reply>();
  write_reply(proto, std::move(reply), asking.id, asking.action);
  return proto.SerializeAsString();
}

/// The reference's answer has one word for every success; the rest stands in the trailers.
std::string write_log_response(ServerCall& call, core::Reply reply, const Asking& asking) {
  auto& trailers = call.trailing_metadata();
  trailers.add(keys::kId, asking.id);
  if (!reply.way.empty()) trailers.add(keys::kWay, reply.way);
  if (reply.duplicate) trailers.add(keys::kDuplicate, "true");
  ::logs::LogResponse proto;
  proto.set_result("logged!");
  return proto.SerializeAsString();
}

core::awaitable<UnaryAnswer> answer(const Surface& surface, ServerCall& call, Side side, ReadMessage read, WriteAnswer write, std::string bytes) {
  Asking asking;
  asking.trace = call.context().trace;
  UnaryAnswer result;
  auto message = read(bytes);
  if (!message) {
    result.status = refuse(surface, call, asking, message.error());
    co_return result;
  }
  std::string().swap(bytes);
  auto& request = message.value().request;
  auto context = call.context();
  asking.action = request.action;
  side = surface.side_of(side, asking.action);
  asking.inner = side == Side::services && call.metadata().contains(keys::kId);
  if (auto understood = read_metadata(call, surface.trust, side, message.value().own, request, context); !understood) {
    result.status = refuse(surface, call, asking, understood.error());
    co_return result;
  }
  asking.id = request.id.str();
  auto& handler = surface.handler(side, asking.action);
  auto reply = co_await handler.handle(std::move(request), std::move(context));
  if (!reply) {
    result.status = refuse(surface, call, asking, reply.error());
  } else if (reply.value().events) {
    result.status = refuse(surface, call, asking, core::invalid_argument("the action " + asking.action + " goes on: call Actions.Follow"));
  } else {
    result.message = write(call, std::move(reply.value()), asking);
  }
  co_return result;
}

/// Registers the methods of one server, and remembers their services.
class Registration {
 public:
  Registration(MethodTable& table, std::shared_ptr<const Surface> surface) : table_(table), surface_(std::move(surface)) {}

  void unary(const std::string& service, const char* method, Side side, ReadMessage read, WriteAnswer write = write_own_reply) {
    note(service);
    auto call = [surface = surface_, side, read, write](ServerCall& call, std::string bytes) {
      return answer(*surface, call, side, read, write, std::move(bytes));
    };
    table_.add_unary("/" + service + "/" + method, std::move(call));
  }
  void bulk(const std::string& service, const char* method, Side side, ReadBulk read) {
    note(service);
    auto call = [surface = surface_, side, read](ServerCall& call) { return run_bulk(*surface, call, side, read); };
    table_.add_stream("/" + service + "/" + method, std::move(call));
  }
  void follow(const std::string& service, const char* method) {
    note(service);
    auto call = [surface = surface_](ServerCall& call) { return run_follow(*surface, call); };
    table_.add_stream("/" + service + "/" + method, std::move(call), Lasts::subscription);
  }
  std::vector<std::string> take_services() { return std::move(services_); }

 private:
  void note(const std::string& service) {
    if (services_.empty() || services_.back() != service) services_.push_back(service);
  }

  MethodTable& table_;
  std::shared_ptr<const Surface> surface_;
  std::vector<std::string> services_;
};

}  // namespace

void add_methods(MethodTable& table, const GrpcServerOptions& options, const Ingress& ingress) {
  silence_protobuf();
  const auto& process = ingress.process;
  auto surface = std::make_shared<const Surface>(Surface{process, ingress.broker, ingress.services, options.default_timeout, options.max_timeout,
                                                         static_cast<std::size_t>(options.max_bulk_in_flight),
                                                         Trust{process.admin_token, process.process_key, process.token_always, ingress.login_tokens,
                                                               ingress.broker == nullptr}});
  Registration methods(table, surface);
  if (ingress.broker) {
    methods.unary("flexiconnect.v1.Broker", "Handle", Side::broker, read_handle);
    methods.bulk("flexiconnect.v1.Broker", "HandleStream", Side::broker, read_numbered_request);
  }
  if (ingress.services) {
    methods.unary("flexiconnect.v1.Authentication", "Authenticate", Side::services, read_credentials);
    methods.unary("flexiconnect.v1.Logger", "WriteLog", Side::services, read_log);
    methods.bulk("flexiconnect.v1.Logger", "WriteLogs", Side::services, read_numbered_log);
    methods.unary("flexiconnect.v1.Mail", "Send", Side::services, read_mail);
  }
  if (ingress.broker || ingress.services) {
    const auto side = ingress.services ? Side::services : Side::broker;
    methods.unary("flexiconnect.v1.Actions", "Call", side, read_call);
    methods.follow("flexiconnect.v1.Actions", "Follow");
    methods.unary("logs.LogService", "WriteLog", side, read_log_request, write_log_response);
  }
  auto services = methods.take_services();
  services.push_back("grpc.health.v1.Health");
  add_health(table, ingress.process.readiness, services);
  services.push_back("grpc.reflection.v1.ServerReflection");
  services.push_back("grpc.reflection.v1alpha.ServerReflection");
  add_reflection(table, std::move(services));
}

}  // namespace flexi::transports::grpc
