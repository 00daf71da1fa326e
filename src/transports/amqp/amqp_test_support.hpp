// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <mutex>
#include <set>


#include "core/timestamp.hpp"
#include "runtime/log_sink.hpp"
#include "tests/support/rabbitmq.hpp"
#include "transports/amqp/amqp.hpp"

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using namespace std::chrono_literals;

/// Somebody else's program: librabbitmq as its manual has it, nothing of ours.
class Foreigner {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;
  struct Got {
    bool found = false;
    std::string body, message_id, content_type, correlation_id;
    std::map<std::string, std::string> headers;
    std::string expiration;
  };

  explicit Foreigner(const std::string& url) {
    std::string copy = url;
    amqp_connection_info info{};
    EXPECT_EQ(amqp_parse_url(copy.data(), &info), AMQP_STATUS_OK);
    connection_ = amqp_new_connection();
    auto* socket = amqp_tcp_socket_new(connection_);
    EXPECT_EQ(amqp_socket_open(socket, info.host, info.port), AMQP_STATUS_OK);
    EXPECT_TRUE(well(amqp_login(connection_, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password)));
    open();
  }
  ~Foreigner() {
    amqp_connection_close(connection_, 200);
    amqp_destroy_connection(connection_);
  }

  void publish(const std::string& exchange, const std::string& key, const std::string& body, amqp_basic_properties_t properties = {}, const Headers& headers = {}) {
    std::vector<amqp_table_entry_t> entries;
    for (auto& [name, value] : headers) {
      amqp_table_entry_t entry{};
      entry.key = bytes(name);
      entry.value.kind = AMQP_FIELD_KIND_UTF8;
      entry.value.value.bytes = bytes(value);
      entries.push_back(entry);
    }
    properties.headers = {static_cast<int>(entries.size()), entries.data()};
    properties._flags |= AMQP_BASIC_HEADERS_FLAG;
    EXPECT_EQ(amqp_basic_publish(connection_, channel_, bytes(exchange), bytes(key), 0, 0, &properties, bytes(body)), AMQP_STATUS_OK);
  }
  /// A transient queue of its own.
  std::string declare_own() {
    auto* ok = amqp_queue_declare(connection_, channel_, amqp_empty_bytes, 0, 0, 1, 1, amqp_empty_table);
    return ok ? text(ok->queue) : "";
  }
  bool declare_classic(const std::string& queue) {
    amqp_queue_declare(connection_, channel_, bytes(queue), 0, 1, 0, 0, amqp_empty_table);
    return well(amqp_get_rpc_reply(connection_));
  }
  bool declare_exchange(const std::string& exchange, const std::string& type) {
    amqp_exchange_declare(connection_, channel_, bytes(exchange), bytes(type), 0, 1, 0, 0, amqp_empty_table);
    return well(amqp_get_rpc_reply(connection_));
  }
  void remove(const std::string& queue) {
    amqp_queue_delete(connection_, channel_, bytes(queue), 0, 0);
    EXPECT_TRUE(well(amqp_get_rpc_reply(connection_)));
  }
  void unbind(const std::string& queue, const std::string& exchange, const std::string& key) {
    amqp_queue_unbind(connection_, channel_, bytes(queue), bytes(exchange), bytes(key), amqp_empty_table);
    EXPECT_TRUE(well(amqp_get_rpc_reply(connection_)));
  }
  /// Consumes it alone: nobody else may.
  void consume_exclusively(const std::string& queue) {
    amqp_basic_consume(connection_, channel_, bytes(queue), bytes("alone"), 0, 0, 1, amqp_empty_table);
    EXPECT_TRUE(well(amqp_get_rpc_reply(connection_)));
  }
  void stop_consuming() {
    amqp_basic_cancel(connection_, channel_, bytes("alone"));
    EXPECT_TRUE(well(amqp_get_rpc_reply(connection_)));
  }
  /// Messages that wait; -1: no such queue.
  int count(const std::string& queue) {
    auto* ok = amqp_queue_declare(connection_, channel_, bytes(queue), 1, 0, 0, 0, amqp_empty_table);
    if (ok) return static_cast<int>(ok->message_count);
    ++channel_;
    open();
    return -1;
  }
  /// Takes one, for good or only to look.
  Got get(const std::string& queue, bool keep = false) {
    Got got;
    auto reply = amqp_basic_get(connection_, channel_, bytes(queue), !keep);
    if (reply.reply.id != AMQP_BASIC_GET_OK_METHOD) return got;
    amqp_message_t message;
    if (amqp_read_message(connection_, channel_, &message, 0).reply_type != AMQP_RESPONSE_NORMAL) return got;
    got.found = true;
    got.body = text(message.body);
    auto& p = message.properties;
    if (p._flags & AMQP_BASIC_MESSAGE_ID_FLAG) got.message_id = text(p.message_id);
    if (p._flags & AMQP_BASIC_CONTENT_TYPE_FLAG) got.content_type = text(p.content_type);
    if (p._flags & AMQP_BASIC_CORRELATION_ID_FLAG) got.correlation_id = text(p.correlation_id);
    if (p._flags & AMQP_BASIC_EXPIRATION_FLAG) got.expiration = text(p.expiration);
    if (p._flags & AMQP_BASIC_HEADERS_FLAG)
      for (int i = 0; i < p.headers.num_entries; ++i) {
        auto& e = p.headers.entries[i];
        if (e.value.kind == AMQP_FIELD_KIND_UTF8) got.headers[text(e.key)] = text(e.value.value.bytes);
        else if (e.value.kind == AMQP_FIELD_KIND_I64) got.headers[text(e.key)] = std::to_string(e.value.value.i64);
      }
    amqp_destroy_message(&message);
    amqp_maybe_release_buffers(connection_);
    return got;
  }
  static amqp_bytes_t bytes(const std::string& value) { return {value.size(), const_cast<char*>(value.data())}; }

 private:
  static std::string text(amqp_bytes_t value) { return {static_cast<const char*>(value.bytes), value.bytes ? value.len : 0}; }
  static bool well(amqp_rpc_reply_t reply) { return reply.reply_type == AMQP_RESPONSE_NORMAL; }
  void open() {
    amqp_channel_open(connection_, channel_);
    EXPECT_TRUE(well(amqp_get_rpc_reply(connection_)));
  }
  amqp_connection_state_t connection_;
  amqp_channel_t channel_ = 1;
};

/// Stores what it is given, by id; fails as it is told.
class Store final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    std::string data = request.action;
    if (auto* entry = std::get_if<core::LogEntry>(&request.payload)) data = entry->data;
    {
      std::lock_guard lock(mutex);
      ++calls[request.id.str()];
      last_request = request;
      last_context = context;
    }
    if (hold) {
      co_await asio::this_coro::throw_if_cancelled(false);
      asio::steady_timer timer(co_await asio::this_coro::executor);
      ++held;
      while (hold) {
        timer.expires_after(2ms);
        boost::system::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) co_return core::cancelled("cancelled");
      }
    }
    if (failures > 0) {
      --failures;
      co_return core::Error{.kind = kind, .message = "as told", .detail = "secret detail", .retry_after = retry_after, .sent = sent, .answered = true};
    }
    std::lock_guard lock(mutex);
    const bool fresh = stored.insert(request.id.str()).second;
    order.push_back(data);
    core::Reply reply{.message = "logged"};
    reply.duplicate = !fresh;
    co_return reply;
  }
  std::size_t size() {
    std::lock_guard lock(mutex);
    return stored.size();
  }
  /// The data of what came, in order.
  std::vector<std::string> arrived() {
    std::lock_guard lock(mutex);
    return order;
  }

  std::atomic<int> failures{0}, held{0};
  std::atomic<bool> hold{false};
  core::ErrorKind kind = core::ErrorKind::unavailable;
  core::Sent sent = core::Sent::maybe;  ///< the message may be what its service fails of; no: an outage
  std::optional<std::chrono::milliseconds> retry_after{};
  std::mutex mutex;
  std::map<std::string, int> calls;
  std::set<std::string> stored;
  std::vector<std::string> order;
  core::Request last_request;
  core::CallContext last_context;
};

class AmqpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto why = flexi::testing::RabbitMq::missing()) GTEST_SKIP() << *why;
    server_.emplace();
    vhost_.emplace(*server_);
    options.url = vhost_->url();
    options.retry_delay = 50ms;
    options.retry_factor = 2;
    options.retry_steps = 2;
    options.max_attempts = 4;
    options.actions = {"resize"};
    options.max_reconnect_delay = 500ms;
    options.recheck = 200ms;
  }
  void TearDown() override {
    for (auto& client : clients_) run(stop(client.get()));
    for (auto& s : servers_)
      if (s) run(stop(s.get()));
    for (auto& transport : transports_) run(end(transport.get()));
    clients_.clear(), servers_.clear(), transports_.clear();
    shards.join();
    vhost_.reset();
  }

  AmqpTransport& transport() { return *transports_.emplace_back(std::move(make_transport(options, process)).value()); }
  core::Server& serve(AmqpTransport& t, core::Handler& handler) {
    auto& s = *servers_.emplace_back(std::move(t.serve(handler).value()));
    eventually([&] { return t.consuming(); });
    return s;
  }
  core::Server& serve_requests(AmqpTransport& t, core::Handler& handler) {
    auto& s = *servers_.emplace_back(std::move(t.serve_requests(handler).value()));
    eventually([&] { return t.consuming(); });
    return s;
  }
  core::Client& connect(AmqpTransport& t) { return *clients_.emplace_back(std::move(t.connect().value())); }
  void stop_now(core::Server& s, std::chrono::milliseconds grace) {
    run(stop(&s, grace));
    for (auto& one : servers_)
      if (one.get() == &s) one.reset();
  }
  Foreigner foreigner() { return Foreigner(options.url); }

  static core::Request log(std::string data, core::Ack ack = core::Ack::accepted) {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = core::actions::kLog;
    request.payload = core::LogEntry{"test", std::move(data)};
    request.accepted_at = core::from_unix_micros(1'700'000'000'123'456);
    request.ack = ack;
    return request;
  }
  core::Result<core::Reply> call(core::Handler& handler, core::Request request, core::CallContext context = core::CallContext::with_timeout(20s)) {
    std::optional<core::Result<core::Reply>> result;
    run(call_into(&handler, std::move(request), std::move(context), &result));
    return std::move(*result);
  }
  void run(asio::awaitable<void> work) { shards.run(std::move(work)); }
  /// Blocks the test's own thread, which runs nothing else.
  template <class Condition>
  static bool eventually(Condition condition, std::chrono::seconds limit = 30s) {
    for (const auto until = std::chrono::steady_clock::now() + limit; std::chrono::steady_clock::now() < until;) {
      if (condition()) return true;
      std::this_thread::sleep_for(5ms);
    }
    ADD_FAILURE() << "waited in vain";
    return false;
  }
  double counted(const char* kind) { return process.metrics.counter("flexi_amqp_" + std::string(kind) + "_total", "").value(); }
  core::Result<core::DeadLetterPage> letters(core::DeadLetters& all, unsigned limit = 100, std::string cursor = {}) {
    std::optional<core::Result<core::DeadLetterPage>> page;
    auto work = [](core::DeadLetters* l, unsigned n, std::string c, std::optional<core::Result<core::DeadLetterPage>>* out) -> asio::awaitable<void> {
      out->emplace(co_await l->list(n, std::move(c), core::CallContext::with_timeout(20s)));
    };
    run(work(&all, limit, std::move(cursor), &page));
    return std::move(*page);
  }
  core::Result<core::DeadLettersSwept> sweep(core::DeadLetters& all, core::DeadLetterSweep what) {
    std::optional<core::Result<core::DeadLettersSwept>> swept;
    auto work = [](core::DeadLetters* l, core::DeadLetterSweep w, std::optional<core::Result<core::DeadLettersSwept>>* out) -> asio::awaitable<void> {
      out->emplace(co_await l->sweep(std::move(w), core::CallContext::with_timeout(20s)));
    };
    run(work(&all, std::move(what), &swept));
    return std::move(*swept);
  }
  enum class End { replay, discard };
  core::Result<void> end_letter(core::DeadLetters& all, core::DeadLetterKey key, End how) {
    std::optional<core::Result<void>> result;
    auto work = [](core::DeadLetters* l, core::DeadLetterKey k, End h, std::optional<core::Result<void>>* out) -> asio::awaitable<void> {
      auto context = core::CallContext::with_timeout(20s);
      if (h == End::replay) out->emplace(co_await l->replay(k, context));
      else out->emplace(co_await l->discard(k, context));
    };
    run(work(&all, std::move(key), how, &result));
    return std::move(*result);
  }
  /// Every connection to this test's virtual host, as a cut would.
  void cut_connections() {
    // Another test's connection may end while it is asked.
    server_->eval("[rabbit_networking:close_connection(P, \"cut\") || P <- rabbit_networking:connections(), (catch rabbit_reader:info(P, [vhost])) =:= "
                  "[{vhost, <<\"" + vhost_->name() + "\">>}]]");
  }

  static asio::awaitable<void> call_into(core::Handler* handler, core::Request request, core::CallContext context, std::optional<core::Result<core::Reply>>* result) {
    result->emplace(co_await handler->handle(std::move(request), std::move(context)));
  }
  static asio::awaitable<void> stop(core::Client* c) { co_await c->stop({.grace = 1s}); }
  static asio::awaitable<void> stop(core::Server* s, std::chrono::milliseconds grace = 5s) { co_await s->stop({.grace = grace}); }
  static asio::awaitable<void> end(AmqpTransport* t) { co_await t->stop(); }

  std::optional<flexi::testing::RabbitMq> server_;
  std::optional<flexi::testing::RabbitVhost> vhost_;
  runtime::Metrics metrics_;
  runtime::Readiness readiness_;
  runtime::LogSink log_{std::getenv("FLEXI_TEST_LOG") ? runtime::LogLevel::debug : runtime::LogLevel::error, runtime::LogFormat::human};
  runtime::Shards shards{2};
  Process process{metrics_, readiness_, std::getenv("FLEXI_TEST_LOG") ? log_ : runtime::LogSink::none(), shards, "token"};
  AmqpOptions options;
  std::vector<std::unique_ptr<AmqpTransport>> transports_;
  std::vector<std::unique_ptr<core::Server>> servers_;
  std::vector<std::unique_ptr<core::Client>> clients_;
};

}  // namespace flexi::transports::amqp
