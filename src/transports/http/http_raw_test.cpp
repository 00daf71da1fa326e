// SPDX-License-Identifier: Apache-2.0
// The server as seen by a client that sends what it likes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <mutex>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "transports/http/http.hpp"
#include "transports/http/raw_client.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::http {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// Two events, then silence.
class TwoEvents final : public core::EventStream {
 public:
  core::awaitable<core::Result<std::optional<std::string>>> next(core::CallContext context) override {
    if (++count_ <= 2) co_return std::optional<std::string>("{\"n\":" + std::to_string(count_) + "}");
    asio::steady_timer timer(co_await asio::this_coro::executor);
    timer.expires_after(std::min<std::chrono::milliseconds>(context.remaining(), 60s));
    boost::system::error_code ec;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    co_return core::deadline_exceeded("no event");
  }

 private:
  int count_ = 0;
};

/// Answers with what it understood.
class Mirror final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    {
      std::lock_guard lock(mutex);
      last = request;
      last_context = context;
    }
    ++calls;
    if (request.action == core::actions::kLogsTail) {
      core::Reply reply{.message = "ok"};
      reply.events = std::make_unique<TwoEvents>();
      co_return reply;
    }
    const auto text = payload_to_json(request.payload);
    if (text.find("wait") != text.npos) {
      asio::steady_timer timer(co_await asio::this_coro::executor, 30s);
      boost::system::error_code ec;
      ++waiting;
      co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      ++cancelled;
      co_return core::cancelled("cancelled");
    }
    if (text.find("refused") != text.npos) co_return *refuse_with;
    if (text.find("unknown") != text.npos) co_return core::unimplemented("unknown action");
    core::Reply reply{.message = "did " + request.action};
    reply.data = text;
    reply.way = "inproc";
    co_return reply;
  }
  std::atomic<int> calls = 0, waiting = 0, cancelled = 0;
  std::mutex mutex;
  core::Request last;
  core::CallContext last_context;
  std::optional<core::Error> refuse_with;
};

class HttpRawTest : public testing::Test {
 protected:
  ~HttpRawTest() override {
    stop();
    shards.join();
  }
  const std::string& start() {
    if (server) return endpoint;
    options.listen = "127.0.0.1:0";
    Ingress ingress{{metrics, readiness, runtime::LogSink::none(), shards, token, nullptr, "own-key", token_always}, with_broker ? &mirror : nullptr, &mirror, {}};
    ingress.resources.push_back({"/", "text/html", "<p>page</p>", {{"Content-Security-Policy", "default-src 'self'"}}, "\"v1\"", "GZIPPED"});
    server = std::move(serve(options, std::move(ingress)).value());
    return endpoint = server->endpoint();
  }
  void stop(std::chrono::milliseconds grace = 2s) {
    if (!server) return;
    shards.run([](core::Server* s, std::chrono::milliseconds g) -> asio::awaitable<void> { co_await s->stop({.grace = g}); }(server.get(), grace));
    server.reset();
  }
  /// All that the server says to these bytes, until it closes.
  std::string say(std::string_view bytes) {
    if (!server) start();
    RawClient client(endpoint);
    client.send(bytes);
    client.end_sending();
    return client.read_to_end();
  }
  static std::string post(std::string_view path, std::string_view body, std::string_view headers = {}) {
    return "POST " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(headers) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
           std::string(body);
  }
  static std::string get(std::string_view path, std::string_view headers = {}) {
    return "GET " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(headers) + "\r\n";
  }
  template <class Condition>
  void wait_for(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + 20s;
    while (!condition() && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    EXPECT_TRUE(condition());
  }

  runtime::Shards shards{2};
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  HttpServerOptions options;
  Mirror mirror;
  std::string token = "s3cret", endpoint;
  bool with_broker = true, token_always = false;
  std::unique_ptr<core::Server> server;
};

constexpr std::string_view kLog = R"({"action":"log","log":{"name":"n","data":"d"}})";

TEST_F(HttpRawTest, TheContractsCalls) {
  EXPECT_THAT(say(post("/", "")), testing::AllOf(StartsWith("HTTP/1.1 200 OK"), EndsWith(R"({"error":false,"message":"Hit the broker"})")));
  EXPECT_THAT(say(post("/handle", kLog)), testing::AllOf(StartsWith("HTTP/1.1 202"), HasSubstr("X-Flexi-Id: "), HasSubstr("X-Flexi-Way: inproc\r\n"),
                                                         EndsWith(R"({"error":false,"message":"did log","data":{"name":"n","data":"d"}})")));
  EXPECT_THAT(say(post("/log-gRPC", R"({"name":"n","data":"d"})")), StartsWith("HTTP/1.1 202"));
  EXPECT_THAT(say(post("/log", R"({"name":"n","data":"d"})")), HasSubstr("did log"));
  EXPECT_THAT(say(post("/authenticate", R"({"email":"e","password":"p"})")), HasSubstr("did auth"));
  EXPECT_THAT(say(post("/send", R"({"to":"t","subject":"s","message":"m"})")), HasSubstr("did mail"));
  EXPECT_THAT(say(post("/actions/invoice", "{}")), testing::AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("did invoice")));
  EXPECT_THAT(say(get("/ping")), testing::AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("text/plain")));
  EXPECT_THAT(say(get("/healthz")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(say(get("/readyz")), StartsWith("HTTP/1.1 200"));
  readiness.set_unready("disk", "full");
  EXPECT_THAT(say(get("/readyz")), testing::AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("full")));
  EXPECT_THAT(say(get("/metrics")), HasSubstr("flexi_http_connections"));
}

TEST_F(HttpRawTest, AdministrationReadsPathQueryAndBody) {
  EXPECT_THAT(say(get("/logs?q=a+b%26c&limit=5")), EndsWith(R"("data":{"q":"a b&c","limit":"5"}})"));
  EXPECT_THAT(say(get("/mails/x%2Fy")), HasSubstr(R"({"id":"x/y"})"));
  EXPECT_THAT(say(post("/mails/7/release", R"({"to":"a@b","id":"8"})")), HasSubstr(R"("id":"7"})"));
  EXPECT_THAT(say("DELETE /dlq/5 HTTP/1.1\r\nHost: localhost\r\n\r\n"), HasSubstr("did dlq.discard"));
  EXPECT_THAT(say(get("/logs?q=%ff")), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(say(get("/logs?q=%0")), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(say(get("/logs?q=%00")), StartsWith("HTTP/1.1 400"));
}

struct Bad {
  const char* what;
  std::string request;
  int status;
  const char* says;
};

TEST_F(HttpRawTest, BadRequestsGetAClearRefusal) {
  const std::string big(17 * 1024, 'a');
  const Bad all[] = {
      {"two hosts", "GET /ping HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "one Host"},
      {"no host", "GET /ping HTTP/1.1\r\n\r\n", 400, "wants a Host"},
      {"bad host", "GET /ping HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "Host must be"},
      {"both lengths", "POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"},
      {"both lengths, other order", "POST /log HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"},
      {"conflicting lengths", "POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400, "Content-Length"},
      {"length with sign", "POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd", 400, "Content-Length"},
      {"length list", "POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd", 400, "Content-Length"},
      {"unknown coding", "POST /log HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"},
      {"two codings", "POST /log HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"},
      {"coding twice", "POST /log HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"},
      {"coding in 1.0", "POST /log HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"},
      {"space before colon", "GET /ping HTTP/1.1\r\nHost : a\r\n\r\n", 400, "token"},
      {"folded header", "GET /ping HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, "folded"},
      {"bare LF", "GET /ping HTTP/1.1\nHost: a\n\n", 400, "CR LF"},
      {"CR in a value", "GET /ping HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400, "CR"},
      {"NUL in a value", std::string("GET /ping HTTP/1.1\r\nHost: a\r\nX: a") + '\0' + "b\r\n\r\n", 400, "control"},
      {"bad method", "G(T /ping HTTP/1.1\r\nHost: a\r\n\r\n", 400, "method"},
      {"bad target", "GET ping HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"},
      {"space in target", "GET /pi ng HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
      {"bad version", "GET /ping HTTP/3.0\r\nHost: a\r\n\r\n", 400, "version"},
      {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ""},
      {"TLS hello", std::string("\x16\x03\x01\x02\x00\x01\n", 7), 400, ""},
      {"large header", "GET /ping HTTP/1.1\r\nHost: a\r\nX: " + big + "\r\n\r\n", 431, "header is too large"},
      {"endless header", "GET /ping HTTP/1.1\r\nHost: a\r\nX: " + big, 431, "header is too large"},
      {"bad chunk", "POST /log HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n", 400, "chunk"},
      {"expects more", "POST /log HTTP/1.1\r\nHost: a\r\nExpect: coffee\r\nContent-Length: 1\r\n\r\n1", 417, "100-continue"},
      {"half a request", "POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{", 400, "ended before"},
      {"half a header", "GET /ping HTT", 400, "ended before"},
      {"large body", post("/handle", std::string((1 << 20) + 1, ' ')), 400, "at most 1048576 bytes"},
      {"large body elsewhere", post("/mails/1/release", std::string((1 << 20) + 1, ' ')), 413, "at most"},
      {"wrong type", post("/handle", kLog, "Content-Type: text/plain\r\n"), 415, "application/json"},
      {"form", post("/log", "name=a", "Content-Type: application/x-www-form-urlencoded\r\n"), 415, "application/json"},
      {"no JSON", post("/handle", "nonsense"), 400, "valid JSON"},
      {"two values", post("/handle", std::string(kLog) + "{}"), 400, "nothing after it"},
      {"empty", post("/handle", ""), 400, "empty"},
      {"missing field", post("/log", R"({"name":"n"})"), 400, "data is required"},
      {"wrong field", post("/handle", R"({"action":"log","log":{"name":1,"data":""}})"), 400, "log.name must be a string"},
      {"unknown via", post("/handle", kLog, "X-Flexi-Via: pigeon\r\n"), 400, "X-Flexi-Via"},
      {"unknown ack", post("/handle", kLog, "X-Flexi-Ack: perhaps\r\n"), 400, "X-Flexi-Ack"},
      {"negative time-out", post("/handle", kLog, "X-Flexi-Timeout-Ms: -5\r\n"), 400, "X-Flexi-Timeout-Ms"},
      {"garbage time-out", post("/handle", kLog, "X-Flexi-Timeout-Ms: 5s\r\n"), 400, "X-Flexi-Timeout-Ms"},
      {"bad key", post("/handle", kLog, "Idempotency-Key: a b\r\n"), 400, "may hold"},
      {"two keys", post("/handle", kLog, "Idempotency-Key: a\r\nIdempotency-Key: b\r\n"), 400, "given twice"},
      {"two ids", post("/handle", R"({"action":"log","id":"x","log":{"name":"n","data":"d"}})", "Idempotency-Key: a\r\n"), 400, "Idempotency-Key"},
      {"bad time", post("/log", R"({"name":"n","data":"d"})", "X-Flexi-Accepted-At: yesterday\r\nX-Flexi-Process-Key: own-key\r\n"), 400, "RFC 3339"},
      {"hit with no JSON", post("/", "nonsense"), 400, "valid JSON"},
      {"hit with two values", post("/", "{}{}"), 400, "nothing after it"},
      {"hit with half a value", post("/", "{"), 400, "valid JSON"},
      {"hit with another type", post("/", "{}", "Content-Type: text/plain\r\n"), 415, "application/json"},
      {"an administrator's id", post("/log", R"({"name":"n","data":"d"})", "X-Flexi-Id: ~admin~1\r\n"), 400, "~"},
      {"unknown action", post("/handle", R"({"action":"unknown","unknown":{"a":"unknown"}})"), 400, "unknown action"},
      {"unknown path", get("/nowhere"), 404, "nothing at this path"},
      {"wrong method", get("/handle"), 405, "this path takes POST"},
      {"trace", "TRACE /ping HTTP/1.1\r\nHost: a\r\n\r\n", 405, ""},
  };
  for (auto& bad : all) {
    SCOPED_TRACE(bad.what);
    const auto answer = say(bad.request);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 " + std::to_string(bad.status)));
    EXPECT_THAT(answer, HasSubstr("{\"error\":true,\"message\":"));
    EXPECT_THAT(answer, HasSubstr(bad.says));
    EXPECT_EQ(RawClient::complete_answers(answer), 1u) << answer;
  }
  EXPECT_EQ(mirror.calls, 1) << "only the unknown action is the handler's to judge";
}

TEST_F(HttpRawTest, ASmuggledRequestIsNotSeen) {
  const auto answer = say("POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /ping HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(RawClient::complete_answers(answer), 1u) << answer;
}

TEST_F(HttpRawTest, EarlierPipelinedRequestsAreAnsweredBeforeABadOne) {
  const auto answer = say(get("/ping") + post("/handle", kLog) + "NONSENSE\r\n\r\n" + get("/ping"));
  EXPECT_EQ(RawClient::complete_answers(answer), 3u) << answer;
  const auto first = answer.find("HTTP/1.1 200"), second = answer.find("HTTP/1.1 202"), third = answer.find("HTTP/1.1 400");
  EXPECT_LT(first, second);
  EXPECT_LT(second, third);
  EXPECT_THAT(answer.substr(third), HasSubstr("Connection: close\r\n"));
}

TEST_F(HttpRawTest, PipelinedAnswersKeepTheirOrder) {
  std::string requests;
  for (int i = 0; i < 200; ++i)
    requests += post("/log", R"({"name":"n","data":"d)" + std::to_string(i) + "\"}", "X-Flexi-Id: id-" + std::to_string(i) + "\r\n");
  const auto answer = say(requests);
  ASSERT_EQ(RawClient::complete_answers(answer), 200u);
  std::size_t at = 0;
  for (int i = 0; i < 200; ++i) {
    at = answer.find("\"d" + std::to_string(i) + "\"", at);
    ASSERT_NE(at, answer.npos) << i;
  }
}

TEST_F(HttpRawTest, OneByteAtATime) {
  start();
  RawClient client(endpoint);
  for (char c : post("/handle", kLog) + get("/ping")) client.send(std::string_view(&c, 1));
  // An empty chunked body is Beast's weak spot when it comes in pieces (found by http_server_fuzz).
  for (char c : std::string("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")) client.send(std::string_view(&c, 1)), std::this_thread::yield();
  const auto answer = client.read_answers(3);
  EXPECT_THAT(answer, HasSubstr("did log"));
  EXPECT_THAT(answer, HasSubstr("text/plain"));
  EXPECT_THAT(answer, EndsWith("\"Hit the broker\"}"));
}

TEST_F(HttpRawTest, AHalfClosedClientGetsItsAnswer) {
  EXPECT_THAT(say(post("/handle", kLog)), HasSubstr("202 Accepted"));  // say() closes its sending side at once
}

TEST_F(HttpRawTest, ChunkedBodiesAndTheirTrailers) {
  const std::string body = R"({"name":"n","data":"d"})";
  std::string request = "POST /log HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (char c : body) request += "1;ext=1\r\n" + std::string(1, c) + "\r\n";
  request += "0\r\nIdempotency-Key: from-the-trailer\r\n\r\n";
  const auto answer = say(request + get("/ping"));
  EXPECT_THAT(answer, HasSubstr("did log"));
  EXPECT_THAT(answer, Not(HasSubstr("from-the-trailer")));
  EXPECT_EQ(RawClient::complete_answers(answer), 2u);
  EXPECT_THAT(say("POST /log HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" + std::string(0x200000, ' ')), StartsWith("HTTP/1.1 400"));
}

TEST_F(HttpRawTest, ContinueIsSentWhenTheBodyIsAwaited) {
  start();
  RawClient client(endpoint);
  client.send("POST /handle HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: " + std::to_string(kLog.size()) + "\r\n\r\n");
  EXPECT_EQ(client.read_until([](auto& text) { return text.find("\r\n\r\n") != text.npos; }), "HTTP/1.1 100 Continue\r\n\r\n");
  client.forget();
  client.send(kLog);
  EXPECT_THAT(client.read_answers(1), StartsWith("HTTP/1.1 202"));
}

TEST_F(HttpRawTest, OldClientsAndClosing) {
  EXPECT_THAT(say("GET /ping HTTP/1.0\r\n\r\n"), HasSubstr("Connection: close"));
  EXPECT_THAT(say("GET /ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), HasSubstr("Connection: keep-alive"));
  start();
  RawClient client(endpoint);
  client.send(get("/ping", "Connection: close\r\n"));
  EXPECT_THAT(client.read_to_end(), HasSubstr("Connection: close"));
  EXPECT_THAT(say("\r\n\r\n" + get("/ping")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(say("GET http://localhost/ping HTTP/1.1\r\nHost: other\r\n\r\n"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpRawTest, HeadAndOptions) {
  const auto head = say("HEAD /ping HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(head, testing::AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Length: 1\r\n"), EndsWith("\r\n\r\n")));
  EXPECT_THAT(say("OPTIONS /handle HTTP/1.1\r\nHost: a\r\n\r\n"), testing::AllOf(StartsWith("HTTP/1.1 204"), HasSubstr("Allow: POST, OPTIONS")));
  EXPECT_THAT(say("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), StartsWith("HTTP/1.1 204"));
  EXPECT_THAT(say(get("/handle")), HasSubstr("Allow: POST, OPTIONS"));
  EXPECT_THAT(say("PUT /mails/5 HTTP/1.1\r\nHost: a\r\n\r\n"), HasSubstr("Allow: GET, HEAD, DELETE, OPTIONS"));
}

TEST_F(HttpRawTest, CorsOfContractCalls) {
  const auto answer = say(post("/handle", kLog, "Origin: https://any.example\r\n"));
  EXPECT_THAT(answer, HasSubstr("Access-Control-Allow-Origin: https://any.example\r\n"));
  EXPECT_THAT(answer, HasSubstr("Access-Control-Allow-Credentials: true"));
  EXPECT_THAT(answer, HasSubstr("Access-Control-Expose-Headers: Link, X-Flexi-Id"));
  EXPECT_THAT(answer, HasSubstr("Vary: Origin"));
  const auto preflight = say("OPTIONS /handle HTTP/1.1\r\nHost: a\r\nOrigin: http://any.example\r\nAccess-Control-Request-Method: POST\r\n\r\n");
  for (auto part : {"204", "Access-Control-Allow-Methods: GET, POST, PUT, DELETE, OPTIONS", "Accept, Content-Type, Authorization, X-CSRF-Token, Idempotency-Key",
                    "Access-Control-Max-Age: 300"})
    EXPECT_THAT(preflight, HasSubstr(part));
  for (auto origin : {"null", "file://", "chrome-extension://x"})
    EXPECT_THAT(say(post("/handle", kLog, "Origin: " + std::string(origin) + "\r\n")), Not(HasSubstr("Access-Control")));
  // A refusal must be readable for the page, too.
  EXPECT_THAT(say(post("/handle", "nonsense", "Origin: http://any.example\r\n")), HasSubstr("Access-Control-Allow-Origin"));
}

TEST_F(HttpRawTest, AdministrationIsForTheSameOriginOrTheTokensBearer) {
  options.allowed_origins = {"https://ops.example"};
  start();
  EXPECT_THAT(say(get("/logs")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(say(get("/logs", "Origin: http://localhost\r\n")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(say(get("/logs", "Origin: https://ops.example\r\n")), HasSubstr("Access-Control-Allow-Origin: https://ops.example"));
  EXPECT_THAT(say(get("/logs", "Origin: http://evil.example\r\n")), testing::AllOf(StartsWith("HTTP/1.1 403"), Not(HasSubstr("Access-Control"))));
  EXPECT_THAT(say("OPTIONS /logs HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: GET\r\n\r\n"), Not(HasSubstr("Access-Control")));
  EXPECT_THAT(say("GET /logs HTTP/1.1\r\nHost: rebound.example\r\n\r\n"), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(say("GET /logs HTTP/1.1\r\nHost: rebound.example\r\nAuthorization: Bearer s3cret\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(mirror.last_context.caller, "admin");
  EXPECT_THAT(say(get("/logs", "Authorization: Bearer wrong!\r\n")), StartsWith("HTTP/1.1 401"));
  // No way round it.
  EXPECT_THAT(say("POST /actions/users.list HTTP/1.1\r\nHost: rebound.example\r\nContent-Length: 2\r\n\r\n{}"), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(say("POST /handle HTTP/1.1\r\nHost: rebound.example\r\nContent-Length: 23\r\n\r\n{\"action\":\"users.list\"}"), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(say("GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n\r\n"), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(say("GET /logs HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"), StartsWith("HTTP/1.1 401"));
}

TEST_F(HttpRawTest, IdsAreScopedByWhoAsks) {
  EXPECT_THAT(say(post("/handle", kLog, "Idempotency-Key: k1\r\n")), HasSubstr("X-Flexi-Id: k1\r\n"));
  EXPECT_TRUE(mirror.last.id_from_caller);
  EXPECT_THAT(say(post("/handle", kLog, "Idempotency-Key: k1\r\nAuthorization: Bearer s3cret\r\n")), HasSubstr("X-Flexi-Id: ~admin~k1\r\n"));
  EXPECT_THAT(say(post("/handle", R"({"action":"log","id":"k2","log":{"name":"n","data":"d"}})")), HasSubstr("X-Flexi-Id: k2\r\n"));
  EXPECT_THAT(say(post("/log", R"({"name":"n","data":"d"})", "X-Flexi-Id: abc\r\n")), HasSubstr("X-Flexi-Id: abc\r\n"));
  EXPECT_FALSE(mirror.last.id_from_caller);
  say(post("/handle", kLog, "X-Flexi-Via: amqp\r\nX-Flexi-Ack: stored\r\nX-Flexi-Timeout-Ms: 999999999999999999999\r\n"));
  EXPECT_EQ(mirror.last.via, core::Via::amqp);
  EXPECT_EQ(mirror.last.ack, core::Ack::stored);
  EXPECT_LE(mirror.last_context.remaining(), options.max_timeout);
}

constexpr const char* kEntry = R"({"name":"n","data":"d"})";
const std::string kJourney = "X-Flexi-Id: abc\r\nX-Flexi-Accepted-At: 2026-01-02T03:04:05Z\r\nX-Flexi-Hops: broker>amqp@1\r\nX-Flexi-Via: amqp\r\n";

TEST_F(HttpRawTest, WhereTheBrokerIsStrangersDontSayWhereAMessageHasBeen) {
  const auto arrived = [&](const std::string& headers, const char* path = "/log") {
    EXPECT_THAT(say(post(path, kEntry, kJourney + headers)), HasSubstr("X-Flexi-Id: abc\r\n"));
    return mirror.last_context.hops + " " + std::string(core::to_string(mirror.last.via)) + " " + core::to_rfc3339(mirror.last.accepted_at).substr(0, 10);
  };
  const std::string believed = "broker>amqp@1 amqp 2026-01-02", own = " http " + core::to_rfc3339(std::chrono::system_clock::now()).substr(0, 10);
  EXPECT_EQ(arrived(""), own);
  EXPECT_EQ(arrived("", "/actions/mine"), own);
  EXPECT_EQ(arrived("X-Flexi-Process-Key: \r\n"), own);
  EXPECT_EQ(arrived("X-Flexi-Process-Key: own-kez\r\n"), own);
  EXPECT_EQ(arrived("X-Flexi-Process-Key: own-key\r\n"), believed);
  EXPECT_EQ(arrived("Authorization: Bearer s3cret\r\n"), believed);
}

TEST_F(HttpRawTest, AServiceAloneBelievesItsPeers) {
  with_broker = false;
  say(post("/log", kEntry, kJourney));
  EXPECT_EQ(mirror.last_context.hops, "broker>amqp@1");
  EXPECT_EQ(mirror.last.via, core::Via::amqp);
  EXPECT_EQ(core::to_rfc3339(mirror.last.accepted_at), "2026-01-02T03:04:05.000000Z");
}

TEST_F(HttpRawTest, NothingIsAcceptedInTheTimeToCome) {
  with_broker = false;
  say(post("/log", kEntry, "X-Flexi-Id: abc\r\nX-Flexi-Accepted-At: 2199-01-02T03:04:05Z\r\n"));
  EXPECT_LE(mirror.last.accepted_at, std::chrono::system_clock::now());
}

TEST_F(HttpRawTest, ErrorsNameTheMessageAndTheWay) {
  auto refused = core::unauthenticated("invalid credentials");
  refused.way = "grpc";
  mirror.refuse_with = refused;
  EXPECT_THAT(say(post("/handle", R"({"action":"log","id":"k9","log":{"name":"n","data":"refused"}})")),
              testing::AllOf(StartsWith("HTTP/1.1 401"), HasSubstr("X-Flexi-Way: grpc\r\n"), HasSubstr("X-Flexi-Id: k9\r\n")));
  // Refused before it is understood.
  const std::string large((1 << 20) + 1, ' ');
  for (auto path : {"/handle", "/log-gRPC", "/log", "/authenticate", "/send", "/actions/mine"})
    for (auto& body : {std::string("nonsense"), large}) {
      SCOPED_TRACE(path);
      EXPECT_THAT(say(post(path, body)), testing::AllOf(HasSubstr("X-Flexi-Id: 0"), Not(HasSubstr("X-Flexi-Way"))));
      EXPECT_THAT(say(post(path, body, "Idempotency-Key: mine\r\n")), HasSubstr("X-Flexi-Id: mine\r\n"));
    }
  EXPECT_THAT(say(post("/log", "nonsense", "X-Flexi-Id: theirs\r\n")), HasSubstr("X-Flexi-Id: theirs\r\n"));
  EXPECT_THAT(say(post("/handle", kLog, "Content-Type: text/plain\r\n")), HasSubstr("X-Flexi-Id: 0"));
  EXPECT_THAT(say(post("/handle", kLog, "Idempotency-Key: a b\r\n")), testing::AllOf(StartsWith("HTTP/1.1 400"), HasSubstr("X-Flexi-Id: 0")));
}

TEST_F(HttpRawTest, HittingTheBrokerTakesNothingOrAnyOneValue) {
  for (auto body : {"", "{}", "[1, 2]", "\"text\"", " null "}) EXPECT_THAT(say(post("/", body)), testing::AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Hit the broker"))) << body;
  EXPECT_THAT(say(post("/", "", "Content-Type: text/plain\r\n")), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpRawTest, AProxysRequestsAreNotFromThisMachine) {
  for (auto header : {"Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4", "x-forwarded-proto: https", "X-Forwarded-Host: localhost", "Via: 1.1 proxy", "X-Real-IP: 1.2.3.4"})
    EXPECT_THAT(say(get("/logs", std::string(header) + "\r\n")), StartsWith("HTTP/1.1 401")) << header;
  EXPECT_THAT(say(get("/logs", "X-Forward: no\r\nX-Flexi-Via: http\r\n")), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpRawTest, TheTokenCanBeWantedOnThisMachine) {
  token_always = true;
  EXPECT_THAT(say(get("/logs")), testing::AllOf(StartsWith("HTTP/1.1 401"), HasSubstr("Authorization: Bearer")));
  EXPECT_THAT(say(get("/metrics")), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(say(get("/logs", "Authorization: Bearer s3cret\r\n")), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(say(post("/handle", kLog)), StartsWith("HTTP/1.1 202"));
}

TEST_F(HttpRawTest, FilesHaveETagsAndGzip) {
  const auto page = say(get("/"));
  EXPECT_THAT(page, testing::AllOf(HasSubstr("ETag: \"v1\""), HasSubstr("Content-Security-Policy: default-src 'self'"), HasSubstr("Content-Type: text/html"), EndsWith("<p>page</p>")));
  EXPECT_THAT(say(get("/", "If-None-Match: \"v1\"\r\n")), testing::AllOf(StartsWith("HTTP/1.1 304"), EndsWith("\r\n\r\n")));
  EXPECT_THAT(say(get("/", "Accept-Encoding: br, gzip\r\n")), testing::AllOf(HasSubstr("Content-Encoding: gzip"), EndsWith("GZIPPED")));
  EXPECT_THAT(say(get("/", "Accept-Encoding: gzip;q=0\r\n")), EndsWith("<p>page</p>"));
}

TEST_F(HttpRawTest, SlowHeadersAndBodiesTimeOut) {
  options.header_timeout = options.body_timeout = 60ms;
  start();
  RawClient header(endpoint), body(endpoint), silent(endpoint);
  header.send("GET /ping HTTP/1.1\r\nHo");
  body.send("POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{");
  EXPECT_THAT(header.read_to_end(), StartsWith("HTTP/1.1 408"));
  EXPECT_THAT(body.read_to_end(), StartsWith("HTTP/1.1 408"));
  EXPECT_EQ(silent.read_to_end(), "");
}

TEST_F(HttpRawTest, ABodyThatDribblesTimesOutToo) {
  options.body_timeout = 60ms;
  start();
  RawClient body(endpoint);
  body.send("POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
  int sent = 0;
  while (!body.hears_within(5ms) && ++sent < 1000) body.send(" ");
  EXPECT_THAT(body.read_to_end(), testing::AllOf(StartsWith("HTTP/1.1 408"), HasSubstr("the body took too long")));
  EXPECT_LT(sent, 1000) << "each byte renewed the time";
}

TEST_F(HttpRawTest, BodiesThatComeShareOneBudget) {
  options.max_body_bytes = options.max_buffered_bytes = 100'000;
  start();
  const auto post_half = [&](RawClient& client) {
    client.send("POST /handle HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n" + std::string(60'000, ' '));
  };
  // Twice as many as there is room for on two cores, whichever they meet: most are told so.
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 8; ++i) post_half(*clients.emplace_back(std::make_unique<RawClient>(endpoint)));
  wait_for([&] { return std::count_if(clients.begin(), clients.end(), [](auto& client) { return client->hears_within(0ms); }) >= 6; });
  int refused = 0;
  for (auto& client : clients)
    if (client->hears_within(0ms)) {
      ++refused;
      EXPECT_THAT(client->read_to_end(), testing::AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("Retry-After: 1\r\n"), HasSubstr("X-Flexi-Id: "), HasSubstr("Connection: close")));
    }
  EXPECT_GE(refused, 6);
  // A request that has come whole needs no more room; and what has gone makes room.
  EXPECT_THAT(say(post("/handle", kLog)), StartsWith("HTTP/1.1 202"));
  clients.clear();
  wait_for([&] { return metrics.gauge("flexi_http_connections", "").value() < 1; });
  const std::string padded = std::string(kLog) + std::string(90'000, ' ');
  for (int i = 0; i < 8; ++i) EXPECT_THAT(say(post("/handle", padded)), StartsWith("HTTP/1.1 202"));
}

TEST_F(HttpRawTest, ARequestThatIsHandledKeepsItsPlaceInTheBudget) {
  options.max_body_bytes = options.max_buffered_bytes = 100'000;
  start();
  std::vector<std::unique_ptr<RawClient>> clients;
  const std::string padded = R"({"action":"log","log":{"name":"n","data":"wait"}})" + std::string(90'000, ' ');
  for (int i = 0; i < 8; ++i) clients.emplace_back(std::make_unique<RawClient>(endpoint))->send(post("/handle", padded));
  wait_for([&] { return mirror.waiting + std::count_if(clients.begin(), clients.end(), [](auto& client) { return client->hears_within(0ms); }) == 8; });
  EXPECT_LE(mirror.waiting, 2) << "one on each core";
  EXPECT_GE(mirror.waiting, 1);
  for (auto& client : clients) client->reset();
  wait_for([&] { return mirror.cancelled == mirror.waiting; });
}

TEST_F(HttpRawTest, IdleConnectionsAreClosed) {
  options.idle_timeout = 60ms;
  start();
  RawClient client(endpoint);
  client.send(get("/ping"));
  EXPECT_EQ(RawClient::complete_answers(client.read_to_end()), 1u);
}

TEST_F(HttpRawTest, AHandlerIsCancelledAtTheDeadline) {
  const auto answer = say(post("/log", R"({"name":"n","data":"wait"})", "X-Flexi-Timeout-Ms: 50\r\n") + get("/ping"));
  EXPECT_THAT(answer, testing::AllOf(StartsWith("HTTP/1.1 504"), HasSubstr("X-Flexi-Error: deadline_exceeded"), HasSubstr("text/plain")));
  EXPECT_EQ(mirror.cancelled, 1);
}

TEST_F(HttpRawTest, PipelinedHandlersHaveTheirOwnDeadlines) {
  const auto wait = post("/log", R"({"name":"n","data":"wait"})", "X-Flexi-Id: a\r\nX-Flexi-Timeout-Ms: 50\r\n");
  const auto quick = post("/log", R"({"name":"n","data":"quick"})", "X-Flexi-Id: b\r\n");
  const auto answer = say(wait + quick);
  EXPECT_LT(answer.find("504"), answer.find("quick"));
  EXPECT_EQ(RawClient::complete_answers(answer), 2u);
}

TEST_F(HttpRawTest, AHandlerIsCancelledWhenItsClientIsGone) {
  start();
  RawClient client(endpoint);
  client.send(post("/log", R"({"name":"n","data":"wait"})"));
  wait_for([&] { return mirror.waiting == 1; });
  client.reset();
  wait_for([&] { return mirror.cancelled == 1; });
}

TEST_F(HttpRawTest, OneConnectionTooManyIsToldSo) {
  options.max_connections = 2;
  start();
  RawClient first(endpoint), second(endpoint);
  first.send(get("/ping")).read_answers(1);
  second.send(get("/ping")).read_answers(1);
  RawClient third(endpoint);
  EXPECT_THAT(third.send(get("/ping")).read_to_end(), testing::AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("Retry-After"), HasSubstr("Connection: close")));
  first.close();
  wait_for([&] { return metrics.gauge("flexi_http_connections", "").value() < 2; });
  RawClient fourth(endpoint);
  EXPECT_THAT(fourth.send(get("/ping")).read_answers(1), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpRawTest, StoppingGivesEachKeptConnectionOneAnswerThatCloses) {
  start();
  RawClient busy(endpoint), idle(endpoint);
  busy.send(post("/handle", R"({"action":"log","log":{"name":"n","data":"wait"}})", "X-Flexi-Timeout-Ms: 300\r\n"));
  idle.send(get("/ping")).read_answers(1);
  wait_for([&] { return mirror.waiting == 1; });
  std::thread stopping([&] { stop(); });
  EXPECT_THAT(busy.read_to_end(), testing::AllOf(StartsWith("HTTP/1.1 504"), HasSubstr("Connection: close")));
  EXPECT_THAT(idle.read_to_end(), Not(HasSubstr("Connection: close")));
  stopping.join();
}

TEST_F(HttpRawTest, EventsStreamUntilTheServerStops) {
  options.event_keep_alive = 40ms;
  start();
  RawClient reader(endpoint), leaver(endpoint);
  reader.send(get("/logs/tail"));
  const auto text = reader.read_until([](auto& t) { return t.find(": keep-alive\n\n") != t.npos; });
  EXPECT_THAT(text, testing::AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Type: text/event-stream"), HasSubstr("data: {\"n\":1}\n\ndata: {\"n\":2}\n\n")));
  // Its shard serves others meanwhile.
  for (int i = 0; i < 8; ++i) EXPECT_THAT(say(get("/ping")), StartsWith("HTTP/1.1 200"));
  leaver.send(get("/logs/tail")).read_until([](auto& t) { return t.find("data:") != t.npos; });
  const auto open = metrics.gauge("flexi_http_connections", "").value();
  leaver.close();
  wait_for([&] { return metrics.gauge("flexi_http_connections", "").value() <= open - 1; });
  std::thread stopping([&] { stop(); });
  reader.read_to_end();
  stopping.join();
}

TEST_F(HttpRawTest, AnAddressInUseIsReported) {
  start();
  auto again = options;
  again.listen = endpoint.substr(7);
  const auto second = serve(again, {{metrics, readiness, runtime::LogSink::none(), shards, ""}, &mirror, nullptr, {}});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, core::ErrorKind::unavailable);
  EXPECT_THAT(second.error().message, HasSubstr(again.listen));
  again.listen = "nonsense:1";
  EXPECT_FALSE(serve(again, {{metrics, readiness, runtime::LogSink::none(), shards, ""}, &mirror, nullptr, {}}));
}

}  // namespace
}  // namespace flexi::transports::http
