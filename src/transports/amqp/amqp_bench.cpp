// SPDX-License-Identifier: Apache-2.0
// Confirmed messages a second into a quorum queue (persistent, mandatory, 200 bytes of data): through our publisher with `window`
// callers, by a bare librabbitmq publisher with the same window, by the same with one confirm at a time; and messages a second
// out of it, through our consumer with a null handler and by bare librabbitmq with one acknowledgement for 100.
//   amqp_bench URL [SECONDS [WINDOW]]      e.g. tests/support/rabbitmq.py run -- sh -c 'amqp_bench "$FLEXI_TEST_AMQP_URL"'
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <sys/resource.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdio>
#include <set>

#include "runtime/task_scope.hpp"
#include "transports/amqp/amqp.hpp"

namespace asio = boost::asio;
using namespace flexi;
using Clock = std::chrono::steady_clock;

namespace {

const std::string kExchange = "bench.logs_topic", kQueue = "bench.flexi.log";
const std::string kBody = R"({"name":"event","data":")" + std::string(200, 'x') + "\"}";

amqp_bytes_t bytes(const std::string& text) { return {text.size(), const_cast<char*>(text.data())}; }

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

struct Figure {
  Clock::time_point start = Clock::now();
  double cpu = cpu_seconds();
  double report(const char* what, double count, double seconds) const {
    std::printf("%-58s %9.0f messages/s   %5.1f us CPU of ours each\n", what, count / seconds, (cpu_seconds() - cpu) * 1e6 / count);
    std::fflush(stdout);
    return count / seconds;
  }
  double report(const char* what, double count) const { return report(what, count, std::chrono::duration<double>(Clock::now() - start).count()); }
};

/// librabbitmq as its examples have it.
class Bare {
 public:
  explicit Bare(std::string url) {
    amqp_connection_info info{};
    if (amqp_parse_url(url.data(), &info) != AMQP_STATUS_OK) die("url");
    connection_ = amqp_new_connection();
    if (amqp_socket_open(amqp_tcp_socket_new(connection_), info.host, info.port) != AMQP_STATUS_OK) die("connect");
    check(amqp_login(connection_, info.vhost, 0, 131072, 30, AMQP_SASL_METHOD_PLAIN, info.user, info.password), "login");
    amqp_channel_open(connection_, 1);
    check(amqp_get_rpc_reply(connection_), "channel");
  }
  ~Bare() {
    amqp_connection_close(connection_, 200);
    amqp_destroy_connection(connection_);
  }

  void publish(const char* what, unsigned window, double seconds) {
    amqp_confirm_select(connection_, 1);
    check(amqp_get_rpc_reply(connection_), "confirm");
    amqp_basic_properties_t p{};
    p._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
    p.content_type = amqp_cstring_bytes("application/json");
    p.delivery_mode = 2;
    std::uint64_t published = 0, confirmed = 0, up_to = 0;
    std::set<std::uint64_t> beyond;
    const Figure figure;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (Clock::now() < end || confirmed < published) {
      while (Clock::now() < end && published - confirmed < window) {
        if (amqp_basic_publish(connection_, 1, bytes(kExchange), amqp_cstring_bytes("log.INFO"), 1, 0, &p, bytes(kBody)) != AMQP_STATUS_OK) die("publish");
        ++published;
      }
      for (bool first = true; first || amqp_frames_enqueued(connection_) || amqp_data_in_buffer(connection_); first = false) {
        amqp_frame_t frame;
        timeval patience{10, 0};
        if (confirmed == published) break;
        if (amqp_simple_wait_frame_noblock(connection_, &frame, &patience) != AMQP_STATUS_OK) die("wait");
        if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD) die("no ack");
        auto& ack = *static_cast<amqp_basic_ack_t*>(frame.payload.method.decoded);
        if (ack.multiple) {
          for (; up_to < ack.delivery_tag; ++up_to) confirmed += beyond.erase(up_to + 1) ? 0 : 1;
        } else if (beyond.insert(ack.delivery_tag).second) {
          ++confirmed;
        }
        while (beyond.erase(up_to + 1)) ++up_to;
      }
      amqp_maybe_release_buffers(connection_);
    }
    rate = figure.report(what, static_cast<double>(confirmed));
  }

  void consume(const char* what) {
    amqp_basic_qos(connection_, 1, 0, 200, 0);
    amqp_basic_consume(connection_, 1, bytes(kQueue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(connection_), "consume");
    const Figure figure;
    auto last = Clock::now();
    int count = 0;
    for (;;) {
      amqp_maybe_release_buffers(connection_);
      amqp_envelope_t envelope;
      timeval patience{1, 0};
      if (amqp_consume_message(connection_, &envelope, &patience, 0).reply_type != AMQP_RESPONSE_NORMAL) break;
      if (++count % 100 == 0) amqp_basic_ack(connection_, 1, envelope.delivery_tag, 1);
      last = Clock::now();
      amqp_destroy_envelope(&envelope);
    }
    amqp_basic_ack(connection_, 1, 0, 1);
    figure.report(what, count, std::chrono::duration<double>(last - figure.start).count());
  }

  int count() {
    auto* ok = amqp_queue_declare(connection_, 1, bytes(kQueue), 1, 0, 0, 0, amqp_empty_table);
    return ok ? static_cast<int>(ok->message_count) : -1;
  }
  void purge() { amqp_queue_purge(connection_, 1, bytes(kQueue)); }
  double rate = 0;

 private:
  [[noreturn]] static void die(const char* what) {
    std::fprintf(stderr, "bare librabbitmq failed at: %s\n", what);
    std::exit(1);
  }
  static void check(amqp_rpc_reply_t reply, const char* what) {
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) die(what);
  }
  amqp_connection_state_t connection_;
};

class Null final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request, core::CallContext) override {
    ++handled;
    co_return core::Reply{.message = "logged"};
  }
  std::atomic<int> handled{0};
};

core::awaitable<void> one_caller(core::Client* client, Clock::time_point end, std::uint64_t* confirmed) {
  const std::string data(200, 'x');
  while (Clock::now() < end) {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = "log";
    request.payload = core::LogEntry{"event", data};
    request.accepted_at = std::chrono::system_clock::now();
    request.ack = core::Ack::accepted;
    auto done = co_await client->handle(std::move(request), core::CallContext::with_timeout(std::chrono::seconds(30)));
    if (done) ++*confirmed;
    else std::printf("refused: %s %s\n", done.error().message.c_str(), done.error().detail.c_str());
  }
}

core::awaitable<void> publish_ours(core::Client* client, int callers, double seconds, std::uint64_t* confirmed) {
  runtime::TaskScope scope(co_await asio::this_coro::executor, "callers", runtime::LogSink::none());
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (int i = 0; i < callers; ++i) scope.spawn(one_caller(client, end, confirmed));
  co_await scope.join();
}

core::awaitable<void> until_empty(Null* handler, int count) {
  asio::steady_timer pause(co_await asio::this_coro::executor);
  while (handler->handled < count) {
    pause.expires_after(std::chrono::milliseconds(2));
    co_await pause.async_wait(asio::use_awaitable);
  }
}

core::awaitable<void> remove_all(transports::amqp::AmqpTransport* transport) { (void)co_await transport->remove_topology({}); }
core::awaitable<void> stop(core::Client* client) { co_await client->stop({}); }
core::awaitable<void> stop(core::Server* server) { co_await server->stop({}); }
core::awaitable<void> stop(transports::amqp::AmqpTransport* transport) { co_await transport->stop(); }

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: amqp_bench URL [SECONDS [WINDOW]]\n");
    return 2;
  }
  const std::string url = argv[1];
  const double seconds = argc > 2 ? std::atof(argv[2]) : 5;
  const unsigned window = argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : 1000;
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::Shards shards(2);
  transports::amqp::AmqpOptions options;
  options.url = url;
  options.prefix = "bench.";
  options.confirm_window = window;
  auto transport = std::move(transports::amqp::make_transport(options, {metrics, readiness, runtime::LogSink::none(), shards})).value();
  shards.run(remove_all(transport.get()));
  {
    auto client = std::move(transport->connect()).value();
    std::uint64_t confirmed = 0;
    shards.run(publish_ours(client.get(), 1, 0.2, &confirmed));  // connected, declared
    std::printf("window %u, %.0f s each\n", window, seconds);
    double ours = 0, bare = 0;
    for (int round = 0; round < 3; ++round) {
      Bare(url).purge();
      confirmed = 0;
      const Figure figure;
      shards.run(publish_ours(client.get(), static_cast<int>(window), seconds, &confirmed));
      ours = std::max(ours, figure.report("published, ours", static_cast<double>(confirmed)));
      Bare(url).purge();
      Bare publisher(url);
      publisher.publish("published, bare librabbitmq, same window", window, seconds);
      bare = std::max(bare, publisher.rate);
    }
    Bare one(url);
    one.publish("published, bare librabbitmq, one confirm at a time", 1, seconds);
    std::printf("ours / bare %.2f, ours / one at a time %.1f\n", ours / bare, ours / one.rate);
    shards.run(stop(client.get()));
  }
  const int waiting = Bare(url).count();
  Null null;
  {
    const Figure figure;
    auto server = std::move(transport->serve(null)).value();
    shards.run(until_empty(&null, waiting));
    figure.report("consumed, ours, null handler, connecting included", waiting);
    shards.run(stop(server.get()));
  }
  {
    Bare filler(url);
    filler.publish("(filling the queue again)", window, seconds);
    Bare(url).consume("consumed, bare librabbitmq");
  }
  shards.run(remove_all(transport.get()));
  shards.run(stop(transport.get()));
}
