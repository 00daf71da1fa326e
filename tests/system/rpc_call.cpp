// SPDX-License-Identifier: Apache-2.0
// A client and a server of Cap'n Proto's own library, for the system tests:
//
//   rpc_call HOST:PORT     one JSON object a line in, one a line out, over one kept connection:
//                          {"action","payload","via"?,"ack"?,"id"?,"timeout_ms"?} gives {"ok":true,"message","data","way","id","duplicate"} or
//                          {"ok":false,"kind","message"}; no "via": the object that owns the action is called, not the Broker;
//                          {"bomb":17} calls the Broker with so many objects in the message
//   rpc_call serve         serves Actions on a free port of 127.0.0.1, says "listening PORT", then one line for each call
#include <capnp/ez-rpc.h>
#include <capnp/schema.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <iostream>
#include <string>

#include "flexiconnect.capnp.h"

namespace json = boost::json;

namespace {

std::string text(const json::object& object, const char* key) {
  auto* value = object.if_contains(key);
  return value ? (value->is_string() ? std::string(value->as_string()) : json::serialize(*value)) : "";
}

template <class Enum>
Enum named(const std::string& name, Enum otherwise) {
  if (name.empty()) return otherwise;
  for (auto enumerant : capnp::Schema::from<Enum>().getEnumerants())
    if (name == enumerant.getProto().getName().cStr()) return static_cast<Enum>(enumerant.getOrdinal());
  throw std::runtime_error("no enumerant " + name);
}

void set_meta(flexiconnect::Metadata::Builder meta, const json::object& asked) {
  if (auto id = text(asked, "id"); !id.empty()) meta.setId(id), meta.setIdFromCaller(true);
  meta.setAck(named(text(asked, "ack"), flexiconnect::Ack::STANDARD));
  meta.setVia(named(text(asked, "via"), flexiconnect::Via::AUTO));
  if (auto* timeout = asked.if_contains("timeout_ms")) meta.setTimeoutMs(timeout->as_int64());
  if (auto trace = text(asked, "traceparent"); !trace.empty()) meta.setTraceparent(trace);
}

json::object read_answer(flexiconnect::Answer::Reader answer) {
  if (answer.isError()) {
    auto error = answer.getError();
    const auto kind = capnp::Schema::from<flexiconnect::ErrorKind>().getEnumerants()[static_cast<unsigned>(error.getKind())].getProto().getName();
    return {{"ok", false}, {"kind", kind.cStr()}, {"message", error.getMessage().cStr()}};
  }
  auto ok = answer.getOk();
  auto data = std::string(ok.getData().cStr());
  if (data.empty() && ok.hasUser()) data = json::serialize(json::object{{"id", ok.getUser().getId()}, {"email", ok.getUser().getEmail().cStr()}});
  return {{"ok", true},          {"message", ok.getMessage().cStr()}, {"data", data}, {"way", ok.getWay().cStr()},
          {"id", ok.getId().cStr()}, {"duplicate", ok.getDuplicate()}};
}

template <class Interface>
typename Interface::Client object_of(flexiconnect::ExportTable::Client table, const char* name) {
  auto request = table.getRequest();
  request.setName(name);
  return request.send().getObject().castAs<Interface>();
}

/// The payload as its own struct where it has one.
template <class Builder>
void set_log(Builder entry, const json::object& payload) {
  entry.setName(text(payload, "name"));
  entry.setData(text(payload, "data"));
}
template <class Builder>
void set_mail(Builder mail, const json::object& payload) {
  mail.setFrom(text(payload, "from")), mail.setTo(text(payload, "to")), mail.setSubject(text(payload, "subject")), mail.setMessage(text(payload, "message"));
}
template <class Builder>
void set_credentials(Builder credentials, const json::object& payload) {
  credentials.setEmail(text(payload, "email")), credentials.setPassword(text(payload, "password"));
}

json::object call_broker(flexiconnect::ExportTable::Client table, kj::WaitScope& scope, const json::object& asked) {
  auto request = object_of<flexiconnect::Broker>(table, "Broker").handleRequest();
  set_meta(request.initMeta(), asked);
  auto body = request.initRequest();
  const auto action = text(asked, "action");
  auto& payload = asked.at("payload");
  body.setAction(action);
  if (action == "log") set_log(body.getPayload().initLog(), payload.as_object());
  else if (action == "mail") set_mail(body.getPayload().initMail(), payload.as_object());
  else if (action == "auth") set_credentials(body.getPayload().initCredentials(), payload.as_object());
  else body.getPayload().setJson(json::serialize(payload));
  return read_answer(request.send().wait(scope));
}

json::object call_service(flexiconnect::ExportTable::Client table, kj::WaitScope& scope, const json::object& asked) {
  const auto action = text(asked, "action");
  auto& payload = asked.at("payload");
  if (action == "log") {
    auto request = object_of<flexiconnect::Logger>(table, "Logger").logInfoRequest();
    set_log(request.initEntry(), payload.as_object()), set_meta(request.initMeta(), asked);
    return read_answer(request.send().wait(scope));
  }
  if (action == "mail") {
    auto request = object_of<flexiconnect::Mail>(table, "Mail").sendRequest();
    set_mail(request.initMail(), payload.as_object()), set_meta(request.initMeta(), asked);
    return read_answer(request.send().wait(scope));
  }
  if (action == "auth") {
    auto request = object_of<flexiconnect::Authentication>(table, "Authentication").authenticateRequest();
    set_credentials(request.initCredentials(), payload.as_object()), set_meta(request.initMeta(), asked);
    return read_answer(request.send().wait(scope));
  }
  auto request = object_of<flexiconnect::Actions>(table, "Actions").callRequest();
  request.setAction(action), request.setPayload(json::serialize(payload)), set_meta(request.initMeta(), asked);
  return read_answer(request.send().wait(scope));
}

class IgnoredEvents final : public flexiconnect::EventSink::Server {};

json::object call_with_objects(flexiconnect::ExportTable::Client table, kj::WaitScope& scope, std::int64_t count) {
  auto broker = object_of<flexiconnect::Broker>(table, "Broker");
  auto request = broker.typelessRequest(capnp::typeId<flexiconnect::Broker>(), 0, nullptr);
  auto objects = request.initAs<capnp::List<flexiconnect::EventSink>>(static_cast<unsigned>(count));
  for (unsigned i = 0; i < objects.size(); ++i) objects.set(i, kj::heap<IgnoredEvents>());
  request.send().wait(scope);
  return {{"ok", true}};
}

int run_client(const char* address) {
  capnp::EzRpcClient client(address);
  auto& scope = client.getWaitScope();
  auto table = client.getMain<flexiconnect::ExportTable>();
  std::string line;
  while (std::getline(std::cin, line)) {
    json::object answer;
    try {
      const auto asked = json::parse(line).as_object();
      if (auto* bomb = asked.if_contains("bomb")) answer = call_with_objects(table, scope, bomb->as_int64());
      else answer = asked.contains("via") ? call_broker(table, scope, asked) : call_service(table, scope, asked);
    } catch (const kj::Exception& e) {
      answer = {{"ok", false}, {"kind", "exception"}, {"message", e.getDescription().cStr()}};
    }
    std::cout << json::serialize(answer) << std::endl;
  }
  return 0;
}

/// A service of somebody else's: echoes the payload.
class EchoActions final : public flexiconnect::Actions::Server {
  kj::Promise<void> call(CallContext context) override {
    auto asked = context.getParams();
    auto meta = asked.getMeta();
    std::cout << json::serialize(json::object{{"action", asked.getAction().cStr()}, {"payload", asked.getPayload().cStr()}, {"id", meta.getId().cStr()},
                                              {"traceparent", meta.getTraceparent().cStr()}, {"authorization", meta.getAuthorization().cStr()}})
              << std::endl;
    auto answer = context.getResults();
    if (std::string_view(asked.getPayload().cStr()).find("\"refuse\"") != std::string_view::npos) {
      auto error = answer.initError();
      error.setKind(flexiconnect::ErrorKind::INVALID_ARGUMENT);
      error.setMessage("refused as told");
      return kj::READY_NOW;
    }
    auto ok = answer.initOk();
    ok.setMessage("echoed");
    ok.setData(asked.getPayload());
    return kj::READY_NOW;
  }
};

class Table final : public flexiconnect::ExportTable::Server {
  kj::Promise<void> get(GetContext context) override {
    if (context.getParams().getName() != "Actions") KJ_UNIMPLEMENTED("only Actions is exported here");
    context.getResults().setObject(actions_);
    return kj::READY_NOW;
  }
  kj::Promise<void> list(ListContext context) override {
    context.getResults().initNames(1).set(0, "Actions");
    return kj::READY_NOW;
  }
  flexiconnect::Actions::Client actions_ = kj::heap<EchoActions>();
};

int run_server() {
  capnp::EzRpcServer server(kj::heap<Table>(), "127.0.0.1:0");
  auto& scope = server.getWaitScope();
  std::cout << "listening " << server.getPort().wait(scope) << std::endl;
  kj::NEVER_DONE.wait(scope);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: rpc_call HOST:PORT | rpc_call serve\n";
    return 2;
  }
  return std::string_view(argv[1]) == "serve" ? run_server() : run_client(argv[1]);
}
