// SPDX-License-Identifier: Apache-2.0
// The objects that a server exports, as schemas/flexiconnect.capnp has them.
#include <kj/debug.h>

#include <map>

#include "transports/rpc/session.hpp"

namespace flexi::transports::rpc {

namespace {

/// Every call may be cancelled, and gives its parameters back as soon as they are read.
template <class Context>
kj::Promise<void> answered(Session& session, Context& context, core::Result<Plan> plan, kj::Maybe<schema::EventSink::Client> events = nullptr) {
  context.allowCancellation();
  context.releaseParams();
  return session.answer(std::move(plan), [context](capnp::MessageSize size) mutable { return context.initResults(size); }, kj::mv(events));
}

class LoggerObject final : public schema::Logger::Server {
 public:
  LoggerObject(std::shared_ptr<Session> session, const Exported& exported) : session_(std::move(session)), exported_(exported) {}
  kj::Promise<void> logInfo(LogInfoContext context) override {
    const auto params = context.getParams();
    return answered(*session_, context, plan_log(exported_, params.getEntry(), params.getMeta(), session_->rules()));
  }

 private:
  const std::shared_ptr<Session> session_;
  const Exported& exported_;
};

class AuthenticationObject final : public schema::Authentication::Server {
 public:
  AuthenticationObject(std::shared_ptr<Session> session, const Exported& exported) : session_(std::move(session)), exported_(exported) {}
  kj::Promise<void> authenticate(AuthenticateContext context) override {
    const auto params = context.getParams();
    return answered(*session_, context, plan_authentication(exported_, params.getCredentials(), params.getMeta(), session_->rules()));
  }

 private:
  const std::shared_ptr<Session> session_;
  const Exported& exported_;
};

class MailObject final : public schema::Mail::Server {
 public:
  MailObject(std::shared_ptr<Session> session, const Exported& exported) : session_(std::move(session)), exported_(exported) {}
  kj::Promise<void> send(SendContext context) override {
    const auto params = context.getParams();
    return answered(*session_, context, plan_mail(exported_, params.getMail(), params.getMeta(), session_->rules()));
  }

 private:
  const std::shared_ptr<Session> session_;
  const Exported& exported_;
};

class BrokerObject final : public schema::Broker::Server {
 public:
  BrokerObject(std::shared_ptr<Session> session, const Exported& exported) : session_(std::move(session)), exported_(exported) {}
  kj::Promise<void> handle(HandleContext context) override {
    const auto params = context.getParams();
    return answered(*session_, context, plan_broker(exported_, params.getRequest(), params.getMeta(), session_->rules()));
  }

 private:
  const std::shared_ptr<Session> session_;
  const Exported& exported_;
};

class ActionsObject final : public schema::Actions::Server {
 public:
  ActionsObject(std::shared_ptr<Session> session, const Exported& exported) : session_(std::move(session)), exported_(exported) {}
  kj::Promise<void> call(CallContext context) override {
    const auto params = context.getParams();
    kj::Maybe<schema::EventSink::Client> events;
    if (params.hasEvents()) events = params.getEvents();
    auto plan = plan_action(exported_, view(params.getAction()), view(params.getPayload()), params.getMeta(), session_->rules());
    return answered(*session_, context, std::move(plan), kj::mv(events));
  }

 private:
  const std::shared_ptr<Session> session_;
  const Exported& exported_;
};

/// Gives out each object once: however often a client asks, its connection's tables hold one entry for it.
class ExportTableObject final : public schema::ExportTable::Server {
 public:
  explicit ExportTableObject(std::shared_ptr<Session> session) : session_(std::move(session)) {}

  kj::Promise<void> get(GetContext context) override {
    const auto name = view(context.getParams().getName());
    const auto* exported = session_->registry().find(name);
    if (!exported) return KJ_EXCEPTION(UNIMPLEMENTED, "no object of this name is exported here");
    auto made = made_.find(name);
    if (made == made_.end()) made = made_.emplace(std::string(name), make(*exported)).first;
    context.initResults(capnp::MessageSize{8, 1}).setObject(made->second);
    return kj::READY_NOW;
  }

  kj::Promise<void> list(ListContext context) override {
    const auto& all = session_->registry().all();
    auto names = context.getResults().initNames(static_cast<unsigned>(all.size()));
    unsigned i = 0;
    for (auto& [name, exported] : all) names.set(i++, capnp::Text::Reader(name.data(), name.size()));
    return kj::READY_NOW;
  }

 private:
  capnp::Capability::Client make(const Exported& exported) const {
    switch (exported.type) {
      case ObjectType::logger: return schema::Logger::Client(kj::heap<LoggerObject>(session_, exported));
      case ObjectType::authentication: return schema::Authentication::Client(kj::heap<AuthenticationObject>(session_, exported));
      case ObjectType::mail: return schema::Mail::Client(kj::heap<MailObject>(session_, exported));
      case ObjectType::broker: return schema::Broker::Client(kj::heap<BrokerObject>(session_, exported));
      case ObjectType::actions: return schema::Actions::Client(kj::heap<ActionsObject>(session_, exported));
    }
    KJ_UNREACHABLE;
  }

  const std::shared_ptr<Session> session_;
  std::map<std::string, capnp::Capability::Client, std::less<>> made_;
};

}  // namespace

schema::ExportTable::Client make_export_table(std::shared_ptr<Session> session) { return kj::heap<ExportTableObject>(std::move(session)); }

}  // namespace flexi::transports::rpc
