// SPDX-License-Identifier: Apache-2.0
#include "services/broker/ledger_service.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <set>

#include "runtime/json.hpp"

namespace flexi::services::broker {

namespace asio = boost::asio;
using core::LedgerLine;
using core::Reply;
using core::Result;

namespace {

constexpr std::chrono::milliseconds kPatience(2000);  ///< for one source
constexpr unsigned kDoubts = 100;                     ///< that one reading resolves
constexpr int kReadings = 5;                          ///< until what moves has settled
constexpr std::chrono::milliseconds kBetween(20);

struct Column {
  const char* name;
  std::int64_t LedgerLine::*value;
};
constexpr Column kColumns[] = {{"accepted", &LedgerLine::accepted},   {"stored", &LedgerLine::stored},       {"dead_lettered", &LedgerLine::dead_lettered},
                               {"discarded", &LedgerLine::discarded}, {"expired", &LedgerLine::expired},     {"in_flight", &LedgerLine::in_flight},
                               {"duplicates", &LedgerLine::duplicates}, {"redelivered", &LedgerLine::redelivered}};

void write_columns(runtime::JsonWriter& json, const LedgerLine& line) {
  for (auto& column : kColumns) json.field(column.name, line.*column.value);
  json.field("unaccounted", line.unaccounted());
}

void write_line(runtime::JsonWriter& json, const LedgerLine& line) {
  json.begin_object().field("action", line.action).field("way", line.way);
  write_columns(json, line);
  json.end_object();
}

}  // namespace

struct LedgerService::Reading {
  std::vector<core::Account> books;
  std::map<std::pair<std::string, std::string>, LedgerLine> lines;  ///< by action and way
  LedgerLine total;
  std::vector<std::string> not_asked;
  bool moving = false;  ///< messages came or went while it was read

  void add(core::Account account) {
    for (auto& line : account.lines) {
      if (line.empty()) continue;
      auto& sum = lines[{line.action, line.way}];
      sum.action = line.action, sum.way = line.way;
      sum += line;
      total += line;
    }
    books.push_back(std::move(account));
  }
  bool adds_up() const { return total.unaccounted() == 0 && std::all_of(lines.begin(), lines.end(), [](auto& line) { return line.second.unaccounted() == 0; }); }
};

LedgerService::LedgerService(std::vector<std::reference_wrapper<core::LedgerSource>> sources, runtime::Metrics& metrics,
                             std::map<std::string, std::reference_wrapper<core::ReceiptSource>> stores, std::chrono::milliseconds certain)
    : sources_(std::move(sources)), metrics_(&metrics), stores_(std::move(stores)), certain_(certain),
      unaccounted_(metrics.gauge("flexiconnect_ledger_unaccounted", "Accepted messages that are neither stored, dead-lettered, discarded, expired nor in flight; must be 0")),
      not_asked_(metrics.gauge("flexiconnect_ledger_not_asked", "Parts that the ledger could not ask; while it is not 0 the ledger is incomplete")) {}

core::awaitable<LedgerService::Reading> LedgerService::read_once(core::CallContext context) {
  Reading reading;
  std::set<std::string> seen;
  for (auto& source : sources_) {
    auto accounts = co_await source.get().accounts(context.limited_to(kPatience));
    if (!accounts) {
      reading.not_asked.emplace_back(source.get().source_name());
      continue;
    }
    // Two ways may lead to the same process.
    for (auto& account : accounts.value())
      if (seen.insert(account.book).second) reading.add(std::move(account));
  }
  co_return reading;
}

core::awaitable<void> LedgerService::resolve_doubts(core::LedgerSource& source, core::CallContext context) {
  auto doubts = co_await source.doubts(kDoubts, context.limited_to(kPatience));
  if (!doubts) co_return;
  for (auto& doubt : doubts.value()) {
    if (context.expired()) co_return;
    bool stored = false;
    if (auto store = stores_.find(doubt.action); store != stores_.end()) {
      auto receipt = co_await store->second.get().find_receipt(doubt.id, context.limited_to(kPatience));
      if (!receipt) co_return;  // the next reading asks again
      auto& found = receipt.value();
      stored = found && found->state == core::Receipt::State::stored && found->way == doubt.way && found->accepted_at == doubt.accepted_at;
    }
    const bool certain = stored || std::chrono::system_clock::now() - doubt.at >= certain_;
    if (certain && !co_await source.resolve(doubt, stored, context)) co_return;
  }
}

core::awaitable<LedgerService::Reading> LedgerService::read(core::CallContext context) {
  for (auto& source : sources_) co_await resolve_doubts(source.get(), context);
  auto reading = co_await read_once(context);
  asio::steady_timer pause(co_await asio::this_coro::executor);
  for (int i = 1; i < kReadings && !reading.adds_up() && reading.not_asked.empty() && context.remaining() > 2 * kBetween; ++i) {
    pause.expires_after(kBetween);
    co_await pause.async_wait(asio::use_awaitable);
    auto next = co_await read_once(context);
    next.moving = next.total.accepted != reading.total.accepted || next.total.stored != reading.total.stored || next.total.in_flight != reading.total.in_flight ||
                  next.total.dead_lettered != reading.total.dead_lettered;
    reading = std::move(next);
  }
  co_return reading;
}

void LedgerService::show(const Reading& reading) {
  // Below 0 while messages move is the movement.
  const auto unaccounted = reading.total.unaccounted();
  not_asked_.set(static_cast<double>(reading.not_asked.size()));
  if (!reading.not_asked.empty()) return;  // what is missing would look lost
  unaccounted_.set(static_cast<double>(reading.moving ? std::max<std::int64_t>(unaccounted, 0) : unaccounted));
  for (auto& [key, line] : reading.lines)
    for (auto& column : kColumns)
      metrics_->gauge("flexiconnect_ledger_messages", "Messages by what became of them; duplicates and redelivered are counted beside", {{"action", line.action}, {"way", line.way}, {"state", column.name}})
          .set(static_cast<double>(line.*column.value));
}

core::awaitable<Result<Reply>> LedgerService::handle(core::Request request, core::CallContext context) {
  if (request.action != core::actions::kLedgerGet) co_return core::unimplemented("no action " + request.action + " here");
  if (auto* payload = std::get_if<core::Json>(&request.payload)) {
    FLEXI_CO_TRY(auto params, runtime::JsonObject::parse(payload->text));
    if (auto known = params.nothing_unknown(); !known) co_return known.error();
  }
  auto reading = metrics_ ? co_await read(std::move(context)) : co_await read_once(std::move(context));
  if (metrics_) show(reading);
  runtime::JsonWriter json;
  json.begin_object();
  write_columns(json, reading.total);
  json.field("adds_up", reading.adds_up() && reading.not_asked.empty()).field("moving", reading.moving).key("lines").begin_array();
  for (auto& [key, line] : reading.lines) write_line(json, line);
  json.end_array().key("books").begin_array();
  for (auto& account : reading.books) {
    json.begin_object().field("book", account.book).key("lines").begin_array();
    for (auto& line : account.lines) write_line(json, line);
    json.end_array().end_object();
  }
  json.end_array().key("not_asked").begin_array();
  for (auto& name : reading.not_asked) json.value(name);
  json.end_array().end_object();
  co_return Reply{.message = "ok", .data = json.take()};
}

void LedgerService::start(asio::any_io_executor executor, runtime::LogSink& log, std::chrono::milliseconds period) {
  scope_.emplace(executor, "ledger", log);
  tick_.emplace(executor);
  asio::post(executor, [this, period] { scope_->spawn(show_again(period)); });
}

core::awaitable<void> LedgerService::show_again(std::chrono::milliseconds period) {
  while (!stopping_) {
    const auto begun = std::chrono::steady_clock::now();
    show(co_await read(core::CallContext::with_timeout(std::chrono::seconds(10))));
    if (stopping_) co_return;
    // A long queue takes long to count: at most a twentieth of one reader's time.
    const auto took = std::chrono::steady_clock::now() - begun;
    tick_->expires_after(std::max<std::chrono::steady_clock::duration>(period, 20 * took));
    boost::system::error_code ignored;
    co_await tick_->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

core::awaitable<void> LedgerService::stop() {
  stopping_ = true;
  if (!scope_) co_return;
  auto work = [](LedgerService* self) -> asio::awaitable<void> {
    self->tick_->cancel();
    self->scope_->cancel();  // a service that does not answer must not hold up a stop
    co_await self->scope_->join();
  };
  co_await asio::co_spawn(scope_->executor(), work(this), asio::use_awaitable);
}

}  // namespace flexi::services::broker
