// SPDX-License-Identifier: Apache-2.0
// Cap'n Proto's own two-party client and server, on its own event loop in its own thread, that know the schema only.
#include <capnp/ez-rpc.h>

#include <atomic>
#include <future>
#include <thread>

#include "flexiconnect.capnp.h"
#include "transports/rpc/test_support.hpp"

namespace flexi::transports::rpc {
namespace {

namespace fc = ::flexiconnect;

class RpcNative : public RpcTest {
 protected:
  /// Runs `work` with a client of our server, on a thread with capnp's own loop.
  void as_client(const std::function<void(fc::ExportTable::Client, kj::WaitScope&)>& work) {
    std::thread([&] {
      auto failure = kj::runCatchingExceptions([&] {
        capnp::EzRpcClient client("127.0.0.1", port);
        work(client.getMain<fc::ExportTable>(), client.getWaitScope());
      });
      KJ_IF_MAYBE(e, failure) ADD_FAILURE() << e->getDescription().cStr();
    }).join();
  }
};

template <class Interface>
typename Interface::Client object(fc::ExportTable::Client& table, const char* name) {
  auto request = table.getRequest();
  request.setName(name);
  return request.send().getObject().castAs<Interface>();
}

TEST_F(RpcNative, ANativeClientCallsEveryObject) {
  serve();
  as_client([&](fc::ExportTable::Client table, kj::WaitScope& scope) {
    const auto names = table.listRequest().send().wait(scope);
    std::vector<std::string> list;
    for (auto name : names.getNames()) list.push_back(name.cStr());
    EXPECT_EQ(list, (std::vector<std::string>{"Actions", "Authentication", "Broker", "Logger", "Mail"}));

    auto log = object<fc::Logger>(table, "Logger").logInfoRequest();
    log.initEntry().setName("event");
    log.getEntry().setData("something");
    EXPECT_STREQ(log.send().wait(scope).getOk().getMessage().cStr(), "Processed payload via RPC:event");

    auto login = object<fc::Authentication>(table, "Authentication").authenticateRequest();
    login.initCredentials().setEmail("a@b");
    login.getCredentials().setPassword("secret");
    const auto user = login.send().wait(scope);
    EXPECT_EQ(user.getOk().getUser().getId(), 7);
    EXPECT_STREQ(user.getOk().getUser().getFirstName().cStr(), "A");
    auto wrong = object<fc::Authentication>(table, "Authentication").authenticateRequest();
    wrong.initCredentials().setPassword("x");
    EXPECT_EQ(wrong.send().wait(scope).getError().getKind(), fc::ErrorKind::UNAUTHENTICATED);

    auto mail = object<fc::Mail>(table, "Mail").sendRequest();
    mail.initMail().setTo("x@y");
    EXPECT_TRUE(mail.send().wait(scope).isOk());
    EXPECT_EQ(mirror.last.action, "mail");

    auto broker_object = object<fc::Broker>(table, "Broker");
    auto handle = broker_object.handleRequest();
    handle.initRequest().getPayload().initLog().setName("typed");
    handle.initMeta().setVia(fc::Via::GRPC);
    handle.getMeta().setAck(fc::Ack::ACCEPTED);
    const auto handled = handle.send().wait(scope);
    EXPECT_STREQ(handled.getOk().getMessage().cStr(), "logged");
    EXPECT_STREQ(handled.getOk().getWay().cStr(), "mirror");
    EXPECT_GT(handled.getOk().getId().size(), 0u);
    EXPECT_EQ(mirror.last.via, core::Via::grpc);
    EXPECT_EQ(mirror.last.ack, core::Ack::accepted);
    auto unknown = broker_object.handleRequest();
    unknown.initRequest().setAction("unknown");
    unknown.getRequest().getPayload().setJson("{}");
    EXPECT_EQ(unknown.send().wait(scope).getError().getKind(), fc::ErrorKind::INVALID_ARGUMENT);

    auto actions = object<fc::Actions>(table, "Actions");
    auto custom = actions.callRequest();
    custom.setAction("billing.charge");
    custom.setPayload(R"({"cents":5})");
    EXPECT_STREQ(custom.send().wait(scope).getOk().getData().cStr(), R"({"cents":5})");
    EXPECT_EQ(mirror.last.action, "billing.charge");
    auto at_a_service = actions.callRequest();
    at_a_service.setAction("unknown");
    EXPECT_EQ(at_a_service.send().wait(scope).getError().getKind(), fc::ErrorKind::UNIMPLEMENTED);
  });
}

TEST_F(RpcNative, AThousandInterleavedCallsKeepTheirAnswers) {
  options.max_connection_calls = 2000;
  serve();
  as_client([&](fc::ExportTable::Client table, kj::WaitScope& scope) {
    auto logger = object<fc::Logger>(table, "Logger");
    kj::Vector<capnp::RemotePromise<fc::Answer>> calls;
    for (int i = 0; i < 1000; ++i) {
      auto request = logger.logInfoRequest();
      request.initEntry().setData(kj::str("call ", i));
      calls.add(request.send());
    }
    for (int i = 0; i < 1000; ++i) EXPECT_STREQ(calls[i].wait(scope).getOk().getData().cStr(), kj::str("\"call ", i, "\"").cStr());
  });
}

TEST_F(RpcNative, DroppingThePromiseCancelsTheHandler) {
  serve();
  as_client([&](fc::ExportTable::Client table, kj::WaitScope& scope) {
    auto actions = object<fc::Actions>(table, "Actions");
    const auto soon = [&] {
      auto request = actions.callRequest();
      request.setAction("soon");
      request.send().wait(scope);
    };
    {
      auto request = actions.callRequest();
      request.setAction("wait");
      auto promise = request.send();
      while (mirror.waiting == 0) soon();
    }
    while (mirror.cancelled == 0) soon();
  });
}

/// What a command prints; its exit status stands at the end.
std::string said_by(const std::string& command) {
  std::string said;
  auto* output = ::popen((command + " 2>&1").c_str(), "r");
  if (!output) return "can't be run";
  for (int c; (c = std::fgetc(output)) != EOF;) said += static_cast<char>(c);
  return said + "exit " + std::to_string(::pclose(output));
}

TEST_F(RpcNative, TheExampleOfTheDocsRuns) {
  serve();
  EXPECT_EQ(said_by(std::string(FLEXI_RPC_EXAMPLE) + " 127.0.0.1:" + std::to_string(port)), "logged (way mirror, id order-17)\nexit 0");
}

/// Counts, and takes its time.
class SinkObject final : public fc::EventSink::Server {
 public:
  explicit SinkObject(std::vector<std::string>& events) : events_(events) {}
  kj::Promise<void> event(EventContext context) override {
    events_.push_back(context.getParams().getJson().cStr());
    return blocked ? kj::Promise<void>(kj::NEVER_DONE) : kj::Promise<void>(kj::READY_NOW);
  }
  kj::Promise<void> done(DoneContext) override { return kj::READY_NOW; }
  bool blocked = false;

 private:
  std::vector<std::string>& events_;
};

TEST_F(RpcNative, ATailDeliversUntilItsSubscriptionIsDropped) {
  serve();
  as_client([&](fc::ExportTable::Client table, kj::WaitScope& scope) {
    std::vector<std::string> events;
    auto actions = object<fc::Actions>(table, "Actions");
    {
      auto request = actions.callRequest();
      request.setAction("logs.tail");
      request.setEvents(kj::heap<SinkObject>(events));
      auto answer = request.send().wait(scope);
      EXPECT_STREQ(answer.getOk().getMessage().cStr(), "tailing");
      ASSERT_TRUE(answer.getOk().hasSubscription());
      while (events.size() < 3) table.listRequest().send().wait(scope);
      EXPECT_EQ(events, (std::vector<std::string>{"{\"n\":1}", "{\"n\":2}", "{\"n\":3}"}));
      EXPECT_EQ(mirror.tails, 1);
    }
    while (mirror.tails != 0) table.listRequest().send().wait(scope);
    auto without = actions.callRequest();
    without.setAction("logs.tail");
    EXPECT_EQ(without.send().wait(scope).getError().getKind(), fc::ErrorKind::INVALID_ARGUMENT);
  });
}

TEST_F(RpcNative, ATailWaitsForASlowListener) {
  mirror.endless = true;
  serve();
  as_client([&](fc::ExportTable::Client table, kj::WaitScope& scope) {
    std::vector<std::string> events;
    auto sink = kj::heap<SinkObject>(events);
    sink->blocked = true;
    auto request = object<fc::Actions>(table, "Actions").callRequest();
    request.setAction("logs.tail");
    request.setEvents(kj::mv(sink));
    auto answer = request.send().wait(scope);
    // Other calls go on; the tail comes to a stop after a window of events, 1 KB each.
    int same = 0, last = -1;
    while (same < 200) {
      table.listRequest().send().wait(scope);
      same = std::exchange(last, mirror.events.load()) == mirror.events ? same + 1 : 0;
    }
    EXPECT_GT(mirror.events, 0);
    EXPECT_LT(mirror.events, 1000);
  });
  wait_until([&] { return mirror.tails == 0; });
}

// ---- the other way round: our client, capnp's server ----

class LoggerObject final : public fc::Logger::Server {
 public:
  explicit LoggerObject(std::atomic<int>& dropped) : dropped_(dropped) {}
  kj::Promise<void> logInfo(LogInfoContext context) override {
    const auto entry = context.getParams().getEntry();
    const std::string data = entry.getData().cStr();
    if (data == "throw") return KJ_EXCEPTION(FAILED, "secret words");
    if (data == "overloaded") return KJ_EXCEPTION(OVERLOADED, "too much");
    if (data == "wait") {
      context.allowCancellation();
      return kj::Promise<void>(kj::NEVER_DONE).attach(kj::defer([this] { ++dropped_; }));
    }
    auto ok = context.getResults().initOk();
    ok.setMessage(kj::str("Processed payload via RPC:", entry.getName(), " for ", context.getParams().getMeta().getTimeoutMs() > 0 ? "ms" : "ever"));
    ok.setData(kj::str('"', data, '"'));
    return kj::READY_NOW;
  }

 private:
  std::atomic<int>& dropped_;
};

class TableObject final : public fc::ExportTable::Server {
 public:
  TableObject(std::atomic<int>& dropped, std::atomic<int>& gets) : logger_(kj::heap<LoggerObject>(dropped)), gets_(gets) {}
  kj::Promise<void> get(GetContext context) override {
    ++gets_;
    if (context.getParams().getName() != "Logger") return KJ_EXCEPTION(UNIMPLEMENTED, "no such object");
    context.getResults().setObject(logger_);
    return kj::READY_NOW;
  }

 private:
  fc::Logger::Client logger_;
  std::atomic<int>& gets_;
};

/// capnp's own server on a thread of its own.
class NativeServer {
 public:
  NativeServer() {
    std::promise<unsigned> listening;
    auto port = listening.get_future();
    thread_ = std::thread([this, &listening] {
      capnp::EzRpcServer server(kj::heap<TableObject>(dropped, gets), "127.0.0.1", 0);
      auto stop = kj::newPromiseAndCrossThreadFulfiller<void>();
      stop_ = kj::mv(stop.fulfiller);
      listening.set_value(server.getPort().wait(server.getWaitScope()));
      stop.promise.wait(server.getWaitScope());
    });
    endpoint = "rpc://127.0.0.1:" + std::to_string(port.get());
  }
  ~NativeServer() {
    stop_->fulfill();
    thread_.join();
  }
  std::string endpoint;
  std::atomic<int> dropped = 0, gets = 0;

 private:
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> stop_;
  std::thread thread_;
};

core::Request entry(std::string data) {
  core::Request request;
  request.id = core::MessageId::generate();
  request.action = "log";
  request.payload = core::LogEntry{"n", std::move(data)};
  return request;
}

boost::asio::awaitable<void> call_into(core::Handler* client, core::Request request, core::CallContext context, std::optional<core::Result<core::Reply>>* result) {
  result->emplace(co_await client->handle(std::move(request), context));
}

boost::asio::awaitable<void> many(core::Handler* client, int* right) {
  runtime::TaskScope scope(co_await boost::asio::this_coro::executor, "calls", runtime::LogSink::none());
  std::vector<std::optional<core::Result<core::Reply>>> results(1000);
  for (int i = 0; i < 1000; ++i) scope.spawn(call_into(client, entry(std::to_string(i)), core::CallContext::with_timeout(20s), &results[i]));
  co_await scope.join();
  for (int i = 0; i < 1000; ++i)
    if (*results[i] && results[i]->value().data == "\"" + std::to_string(i) + "\"") ++*right;
}

TEST_F(RpcNative, OurClientCallsANativeServer) {
  NativeServer native;
  auto client = std::move(rpc::connect({}, process, native.endpoint)).value();
  const auto call = [&](core::Request request, core::CallContext context = core::CallContext::with_timeout(10s)) {
    std::optional<core::Result<core::Reply>> result;
    run(call_into(client.get(), std::move(request), context, &result));
    return std::move(*result);
  };
  const auto reply = call(entry("x"));
  ASSERT_TRUE(reply) << reply.error().message << reply.error().detail;
  EXPECT_EQ(reply.value().message, "Processed payload via RPC:n for ms");
  EXPECT_EQ(reply.value().data, "\"x\"");

  const auto failed = call(entry("throw"));
  EXPECT_EQ(failed.error().kind, core::ErrorKind::internal);
  EXPECT_EQ(failed.error().message.find("secret"), std::string::npos);
  EXPECT_EQ(failed.error().sent, core::Sent::maybe);
  EXPECT_EQ(call(entry("overloaded")).error().kind, core::ErrorKind::overloaded);

  auto other = entry("");
  other.action = "custom";
  other.payload = core::Json{"{}"};
  EXPECT_EQ(call(other).error().kind, core::ErrorKind::unimplemented) << "no object Actions there";

  const auto late = call(entry("wait"), core::CallContext::with_timeout(50ms));
  EXPECT_EQ(late.error().kind, core::ErrorKind::deadline_exceeded);
  EXPECT_EQ(late.error().sent, core::Sent::maybe);
  wait_until([&] { return native.dropped == 1; });

  int right = 0;
  run(many(client.get(), &right));
  EXPECT_EQ(right, 1000);
  EXPECT_EQ(native.gets, 2) << "an object is asked for once per connection";
  run(stop_client(client.get()));
}

}  // namespace
}  // namespace flexi::transports::rpc
