// SPDX-License-Identifier: Apache-2.0
#include "apps/system_view.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <filesystem>

#include "runtime/json.hpp"

namespace flexi::apps {

namespace asio = boost::asio;
using core::Result;
using runtime::JsonWriter;

namespace {

/// A part that needs not wait for anything.
template <class Describe>
std::function<core::awaitable<Result<std::string>>(core::CallContext)> at_once(Describe describe) {
  struct Call {
    static core::awaitable<Result<std::string>> make(std::string text) { co_return std::move(text); }
  };
  return [describe](core::CallContext) { return Call::make(describe()); };
}

}  // namespace

SystemView::SystemView(const Settings& settings, const RoleTraits& role, Process& process, Storage& storage)
    : settings_(settings), process_(process), storage_(storage), board_(process.metrics),
      service_({.version = FLEXI_VERSION, .role = role.command.empty() ? "all-in-one" : std::string(role.command)}, process.readiness, parts()),
      scope_(process.shards.executor(0), "system figures", process.log), tick_(scope_.executor()) {}

std::vector<services::system::SystemPart> SystemView::parts() {
  return {{"listening", at_once([this] { return listening_json(); })},
          {"quantiles", at_once([] { return std::string(R"("of the last minute, estimated: interpolated within the buckets of histograms")"); })},
          {"actions", at_once([this] { return board_.to_json(); })},
          {"queue", [this](core::CallContext context) { return queue_json(std::move(context)); }},
          {"stores", at_once([this] { return stores_json(); })},
          {"peers", at_once([this] { return peers_json(); })}};
}

void SystemView::listens(core::Via via, std::string endpoint) {
  std::lock_guard lock(mutex_);
  listening_.emplace_back(via, std::move(endpoint));
}

void SystemView::start() {
  asio::post(scope_.executor(), [this] { scope_.spawn(sample()); });
}

core::awaitable<void> SystemView::sample() {
  while (!stopping_) {
    board_.tick();
    tick_.expires_after(std::chrono::seconds(1));
    boost::system::error_code ignored;
    co_await tick_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

core::awaitable<void> SystemView::stop() {
  auto work = [](SystemView* self) -> asio::awaitable<void> {
    self->stopping_ = true;
    self->tick_.cancel();
    co_await self->scope_.join();
  };
  co_await asio::co_spawn(scope_.executor(), work(this), asio::use_awaitable);
}

std::string SystemView::listening_json() const {
  std::lock_guard lock(mutex_);
  JsonWriter json;
  json.begin_array();
  for (auto& [via, endpoint] : listening_) json.begin_object().field("via", core::to_string(via)).field("endpoint", endpoint).end_object();
  return json.end_array().take();
}

std::string SystemView::peers_json() const {
  const auto now = std::chrono::steady_clock::now();
  JsonWriter json;
  json.begin_array();
  for (auto& peer : process_.peers.all()) {
    json.begin_object().field("peer", peer->peer()).key("addresses").begin_array();
    for (auto& [address, view] : peer->view(now)) {
      const bool aside = view.aside_for.count() > 0;
      json.begin_object().field("address", address).field("state", !aside ? "used" : view.probing ? "probing" : "set_aside");
      if (aside) json.field("aside_ms", view.aside_for.count()).field("because", view.unreachable ? "it can't be reached" : "its calls fail");
      json.field("failures_in_a_row", view.failures_in_a_row).end_object();
    }
    json.end_array().end_object();
  }
  return json.end_array().take();
}

std::string SystemView::stores_json() const {
  JsonWriter json;
  json.begin_array();
  if (storage_.database) {
    const auto why = process_.readiness.why("storage");
    json.begin_object().field("name", "storage").field("kind", "sqlite").field("state", why.empty() ? "ok" : "failing");
    if (!why.empty()) json.field("because", why);
    std::error_code ec;
    const auto bytes = std::filesystem::file_size(settings_.data_dir + "/flexiconnect.db", ec);
    if (!ec) json.field("bytes", bytes);
    json.end_object();
  }
  return json.end_array().take();
}

core::awaitable<Result<std::string>> SystemView::queue_json(core::CallContext context) {
  if (storage_.queue) co_return co_await embedded_json(std::move(context));
  if (queueing_ && queueing_->rabbitmq()) co_return co_await rabbitmq_json(std::move(context));
  co_return std::string("null");
}

core::awaitable<Result<std::string>> SystemView::embedded_json(core::CallContext context) {
  auto state = co_await storage_.queue->status(std::move(context));
  if (!state) co_return state.error();
  auto& [depth, dead_letters, bytes, oldest] = state.value();
  JsonWriter json;
  json.begin_object().field("kind", "embedded").field("depth", depth).field("dead_letters", dead_letters).field("bytes", bytes).key("oldest_seconds");
  if (oldest) json.value(oldest->count());
  else json.raw("null");
  co_return json.end_object().take();
}

/// RabbitMQ tells how many messages wait, neither their bytes nor their age.
core::awaitable<Result<std::string>> SystemView::rabbitmq_json(core::CallContext context) {
  using Role = transports::amqp::QueueDepth::Role;
  auto depths = co_await queueing_->rabbitmq()->depths(std::move(context));
  JsonWriter json;
  json.begin_object().field("kind", "rabbitmq");
  if (auto endpoint = transports::amqp::parse_url(settings_.amqp.url)) json.field("address", endpoint.value().str());
  const auto why = process_.readiness.why("rabbitmq");
  json.field("connected", why.empty());
  if (const auto version = queueing_->rabbitmq()->server_version(); !version.empty()) json.field("version", version);
  if (depths) {
    std::int64_t waiting = 0, dead = 0;
    for (auto& queue : depths.value()) (queue.role == Role::dead ? dead : waiting) += queue.messages;
    json.field("depth", waiting).field("dead_letters", dead).key("queues").begin_array();
    for (auto& queue : depths.value()) {
      if (!queue.exists) continue;
      const char* role = queue.role == Role::work ? "work" : queue.role == Role::retry ? "retry" : "dead";
      json.begin_object().field("queue", queue.queue).field("role", role).field("messages", queue.messages).field("consumers", queue.consumers).end_object();
    }
    json.end_array();
  } else {
    json.field("because", why.empty() ? depths.error().message : why);
  }
  if (auto* spool = queueing_->spool()) {
    const auto status = spool->status();
    json.key("spool").begin_object().field("usable", status.usable).field("messages", status.messages).field("dead_letters", status.dead_letters).field("bytes", status.bytes);
    json.field("oldest_seconds", std::chrono::duration_cast<std::chrono::seconds>(status.oldest_age).count()).end_object();
  }
  co_return json.end_object().take();
}

}  // namespace flexi::apps
