// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/topology.hpp"

#include "core/request.hpp"

namespace flexi::transports::amqp {

using core::Result;

namespace {

/// RabbitMQ 4 limits deliveries to 20 where nothing is said, and looking at a dead letter is a delivery.
constexpr std::int64_t kEndlessDeliveries = 2'000'000'000;

/// Of a log-in that names no deadline of its own, as a stranger's may: nobody waits longer.
constexpr std::int64_t kLogInMs = 300'000;

std::string describe(const std::vector<std::pair<std::string, HeaderValue>>& arguments) {
  std::string text;
  for (auto& [name, value] : arguments) {
    text += text.empty() ? "" : ", ";
    text += name + "=";
    if (auto* number = std::get_if<std::int64_t>(&value)) text += std::to_string(*number);
    else if (auto* words = std::get_if<std::string>(&value)) text += *words;
  }
  return text;
}

}  // namespace

Topology::Topology(const AmqpOptions& options)
    : prefix_(options.prefix), logs_exchange_(prefix_ + "logs_topic"), dead_exchange_(prefix_ + "flexi.dead") {
  if (auto endpoint = parse_url(options.url)) vhost_ = endpoint.value().vhost;
  const auto add = [&](std::string action, const std::string& name, std::string key) {
    WorkQueue work{std::move(action), prefix_ + "flexi." + name, std::move(key), prefix_ + "flexi." + name + ".dlq", {}};
    for (std::int64_t step = 0; step < options.retry_steps; ++step)
      work.retry.push_back(work.queue + ".retry." + std::to_string(options.delay_of_step(step).count()) + "ms");
    works_.push_back(std::move(work));
  };
  add(std::string(core::actions::kLog), "log", "log.INFO");
  add(std::string(core::actions::kMail), "mail", "mail.send");
  works_.push_back({std::string(core::actions::kAuth), prefix_ + "flexi.logins", "auth.request", {}, {}, true});
  for (auto& action : options.actions) add(action, "action." + action, "action." + action);
  add({}, "requests", {});
  plan(options);
}

void Topology::plan_quorum(std::string name, std::vector<Argument> arguments) {
  arguments.insert(arguments.begin(), {"x-queue-type", std::string("quorum")});
  steps_.push_back({Step::Kind::queue, std::move(name), {}, {}, std::move(arguments)});
}

void Topology::plan(const AmqpOptions& options) {
  steps_.push_back({Step::Kind::exchange, logs_exchange_, "topic", {}, {}});
  steps_.push_back({Step::Kind::exchange, dead_exchange_, "direct", {}, {}});
  for (auto& work : works_) {
    if (work.transient) {
      // The queue lasts, since RabbitMQ 4.3 has no other that processes may share; what is in it does not (delivery mode 1).
      steps_.push_back({Step::Kind::queue, work.queue, {}, {}, {{"x-queue-type", std::string("classic")},
                                                                {"x-message-ttl", kLogInMs},
                                                                {"x-max-length", options.max_transient},
                                                                {"x-overflow", std::string("reject-publish")}}});
      steps_.push_back({Step::Kind::bind, work.queue, logs_exchange_, work.key, {}});
      continue;
    }
    // Dead letters first: nothing may die before there is a place for it.
    plan_quorum(work.dead, {{"x-delivery-limit", kEndlessDeliveries}});
    steps_.push_back({Step::Kind::bind, work.dead, dead_exchange_, work.queue, {}});
    // Dead-lettering is at most once unless both of these stand.
    const Argument at_least_once{"x-dead-letter-strategy", std::string("at-least-once")}, reject{"x-overflow", std::string("reject-publish")};
    plan_quorum(work.queue, {{"x-delivery-limit", options.delivery_limit},
                             {"x-dead-letter-exchange", dead_exchange_},
                             {"x-dead-letter-routing-key", work.queue},
                             at_least_once,
                             reject});
    for (std::size_t step = 0; step < work.retry.size(); ++step)
      plan_quorum(work.retry[step], {{"x-message-ttl", options.delay_of_step(static_cast<std::int64_t>(step)).count()},
                                     {"x-dead-letter-exchange", std::string()},
                                     {"x-dead-letter-routing-key", work.queue},
                                     at_least_once,
                                     reject});
    if (work.action == core::actions::kLog)
      for (const char* key : {"log.INFO", "log.WARNING", "log.ERROR"}) steps_.push_back({Step::Kind::bind, work.queue, logs_exchange_, key, {}});
    else if (!work.key.empty())
      steps_.push_back({Step::Kind::bind, work.queue, logs_exchange_, work.key, {}});
  }
}

const WorkQueue* Topology::of_action(std::string_view action) const {
  if (action.empty()) return nullptr;
  for (auto& work : works_)
    if (work.action == action) return &work;
  return nullptr;
}

bool Topology::is_ours(std::string_view queue) const {
  for (auto& step : steps_)
    if (step.kind == Step::Kind::queue && step.name == queue) return true;
  return false;
}

const std::string* Topology::problem_of(const WorkQueue& work, const Problems& problems) const {
  for (const std::string& name : {work.queue, work.key.empty() ? std::string() : logs_exchange_})
    if (auto found = problems.find(name); found != problems.end()) return &found->second;
  return nullptr;
}

void Topology::send(Connection& connection, std::uint16_t channel, const Step& step, Connection::OnReply on_reply) const {
  std::vector<amqp_table_entry_t> entries;
  for (auto& [name, value] : step.arguments) {
    amqp_table_entry_t entry{};
    entry.key = bytes_of(name);
    if (auto* number = std::get_if<std::int64_t>(&value)) {
      entry.value.kind = AMQP_FIELD_KIND_I64;
      entry.value.value.i64 = *number;
    } else {
      entry.value.kind = AMQP_FIELD_KIND_UTF8;
      entry.value.value.bytes = bytes_of(std::get<std::string>(value));
    }
    entries.push_back(entry);
  }
  const amqp_table_t table{static_cast<int>(entries.size()), entries.data()};
  if (step.kind == Step::Kind::exchange) {
    amqp_exchange_declare_t m{0, bytes_of(step.name), bytes_of(step.exchange), 0, 1, 0, 0, 0, table};
    connection.start_call(channel, AMQP_EXCHANGE_DECLARE_METHOD, &m, std::move(on_reply));
  } else if (step.kind == Step::Kind::queue) {
    amqp_queue_declare_t m{0, bytes_of(step.name), 0, 1, 0, 0, 0, table};
    connection.start_call(channel, AMQP_QUEUE_DECLARE_METHOD, &m, std::move(on_reply));
  } else {
    amqp_queue_bind_t m{0, bytes_of(step.name), bytes_of(step.exchange), bytes_of(step.key), 0, table};
    connection.start_call(channel, AMQP_QUEUE_BIND_METHOD, &m, std::move(on_reply));
  }
}

std::string Topology::explain(const Step& step, const MethodReply& refusal) const {
  const bool exchange = step.kind == Step::Kind::exchange;
  const std::string what = (exchange ? "exchange " : "queue ") + step.name;
  if (refusal.code != 406) return what + " can't be declared: " + refusal.text;
  const auto wanted = exchange ? "type=" + step.exchange + ", durable" : "durable, " + describe(step.arguments);
  return what + " exists with other arguments: " + refusal.text + ". Wanted: " + wanted + ". To migrate: stop who publishes to it, let it run empty or move its messages, then " +
         (exchange ? "delete it (rabbitmqadmin --vhost=" + vhost_ + " delete exchange name=" + step.name + ")"
                   : "rabbitmqctl delete_queue --vhost " + vhost_ + " " + step.name) +
         "; it is declared anew within seconds";
}

bool Topology::is_refused_by(const Step& step, const Connection::Closed& closed) {
  switch (step.kind) {
    case Step::Kind::exchange: return closed.method == AMQP_EXCHANGE_DECLARE_METHOD;
    case Step::Kind::queue: return closed.method == AMQP_QUEUE_DECLARE_METHOD;
    default: return closed.method == AMQP_QUEUE_BIND_METHOD;
  }
}

core::awaitable<Result<Problems>> Topology::declare(Connection& connection, std::uint16_t channel, Problems& fatal) const {
  Problems problems = fatal;
  // All at once: RabbitMQ answers in order. What it refuses closes the channel, and what stood behind it is said again.
  struct Round {
    std::size_t left = 0, refused_at = 0, failed_at = 0;
    MethodReply refusal;
    std::optional<core::Error> failure;
    std::shared_ptr<runtime::Completion<void>> done;
  };
  for (std::size_t next = 0; next < steps_.size();) {
    // Open since the last time, unless something was refused.
    if (!connection.is_open(channel)) {
      FLEXI_CO_TRY(co_await connection.open_channel(channel, nullptr));
    }
    auto round = std::make_shared<Round>();
    auto start = [&](std::shared_ptr<runtime::Completion<void>> done) {
      round->done = std::move(done);
      std::vector<std::size_t> todo;
      for (auto i = next; i < steps_.size(); ++i)
        if (!problems.contains(steps_[i].name) && !(steps_[i].kind == Step::Kind::bind && problems.contains(steps_[i].exchange))) todo.push_back(i);
      round->left = todo.size();
      if (todo.empty()) round->done->complete(core::ok());
      for (auto i : todo)
        send(connection, channel, steps_[i], [round, i](const Result<MethodReply>& reply) {
          if (reply && reply.value().refused()) round->refusal = reply.value(), round->refused_at = i;
          else if (!reply && !round->refusal.refused() && !round->failure) round->failure = reply.error(), round->failed_at = i;
          if (--round->left == 0) round->done->complete(core::ok());
        });
    };
    (void)co_await runtime::wait_for_completion<void>(std::move(start), core::unavailable("cancelled"));
    round->done.reset();
    if (!round->refusal.refused()) {
      if (!round->failure) break;
      // RabbitMQ answers in order: it is the first without an answer that cost the connection.
      auto& step = steps_[round->failed_at];
      if (auto& closed = connection.closed(); closed && is_refused_by(step, *closed)) fatal[step.name] = explain(step, {.code = closed->code, .text = closed->text});
      co_return *round->failure;
    }
    auto& step = steps_[round->refused_at];
    problems[step.name] = explain(step, round->refusal);
    next = round->refused_at + 1;
  }
  co_return problems;
}

core::awaitable<Result<void>> Topology::remove(Connection& connection, std::uint16_t channel) const {
  auto opened = co_await connection.open_channel(channel, nullptr);
  if (!opened) co_return opened.error();
  for (auto& step : steps_) {
    if (step.kind == Step::Kind::bind) continue;
    amqp_queue_delete_t queue{0, bytes_of(step.name), 0, 0, 0};
    amqp_exchange_delete_t exchange{0, bytes_of(step.name), 0, 0};
    const bool is_queue = step.kind == Step::Kind::queue;
    auto reply = co_await connection.call(channel, is_queue ? AMQP_QUEUE_DELETE_METHOD : AMQP_EXCHANGE_DELETE_METHOD,
                                          is_queue ? static_cast<void*>(&queue) : static_cast<void*>(&exchange));
    if (!reply) co_return reply.error();
  }
  co_return core::ok();
}

}  // namespace flexi::transports::amqp
