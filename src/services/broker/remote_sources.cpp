// SPDX-License-Identifier: Apache-2.0
// What other processes of ours answer about messages, read back.
#include "services/broker/remote_sources.hpp"

#include <simdjson.h>

#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "runtime/known_ids_json.hpp"
#include "services/broker/receipts.hpp"

namespace flexi::services::broker {

namespace dom = simdjson::dom;
using core::Receipt;
using core::Result;

namespace {

core::Error not_understood(std::string_view who) { return core::internal("internal error", std::string(who) + " answered what is not understood"); }

core::Request ask(std::string_view action, std::string params) {
  core::Request request;
  request.id = core::MessageId::generate();
  request.action = action;
  request.payload = core::Json{std::move(params)};
  return request;
}

std::string text_of(const dom::object& object, std::string_view name) {
  std::string_view text;
  return object[name].get(text) ? std::string() : std::string(text);
}

core::Timestamp time_of(const dom::object& object, std::string_view name) {
  auto time = core::parse_rfc3339(text_of(object, name));
  return time ? time.value() : core::Timestamp{};
}

std::int64_t number_of(const dom::object& object, std::string_view name) {
  std::int64_t number = 0;
  return object[name].get(number) ? 0 : number;
}

std::string hops_of(const dom::object& object) {
  std::string hops;
  dom::array array;
  if (object["hops"].get(array)) return hops;
  for (auto element : array) {
    dom::object hop;
    if (element.get(hop)) continue;
    if (!hops.empty()) hops += ' ';
    hops.append(text_of(hop, "at")).append(1, '@').append(std::to_string(core::to_unix_micros(time_of(hop, "time"))));
  }
  return hops;
}

}  // namespace

core::awaitable<Result<std::optional<Receipt>>> ServiceReceipts::find_receipt(core::MessageId id, core::CallContext context) {
  runtime::JsonWriter params;
  params.begin_object().field("id", id.str());
  if (get_ == core::actions::kMailsGet) params.field("brief", true);
  auto answer = co_await service_.handle(ask(get_, params.end_object().take()), std::move(context));
  if (!answer) {
    // "unimplemented": a mail service without a mailbox keeps nothing that could be found.
    const auto kind = answer.error().kind;
    if (kind == core::ErrorKind::not_found || kind == core::ErrorKind::unimplemented) co_return std::optional<Receipt>();
    co_return answer.error();
  }
  dom::parser parser;
  dom::object found;
  if (parser.parse(answer.value().data).get(found)) co_return not_understood(where_);
  Receipt receipt{.id = std::move(id), .action = action_, .state = Receipt::State::stored, .where = where_};
  // A mail that SMTP has not taken: what becomes of an unsent one is said by whoever queues it.
  if (const auto state = text_of(found, "state"); state == "unsent") co_return std::optional<Receipt>();
  else if (state == "sending") receipt.state = Receipt::State::queued;
  else if (state == "undecided") receipt.state = Receipt::State::unknown, receipt.reason = "the SMTP server may have it";
  receipt.accepted_at = time_of(found, "created_at");
  receipt.at = time_of(found, "updated_at");
  std::int64_t duplicates = 0;
  if (!found["duplicates"].get(duplicates) && duplicates >= 0) receipt.duplicates = static_cast<unsigned>(duplicates);
  receipt.way = text_of(found, "way");
  receipt.trace_id = text_of(found, "trace_id");
  receipt.hops = hops_of(found);
  // A mail is not changed once it is stored: the last hop says when it was.
  if (receipt.at == core::Timestamp{})
    if (const auto hops = core::read_hops(receipt.hops); !hops.empty()) receipt.at = hops.back().time;
  co_return std::optional(std::move(receipt));
}

core::awaitable<Result<core::KnownIds>> ask_known(core::Handler& service, std::string_view action, std::vector<core::MessageId> ids,
                                                  core::CallContext context) {
  runtime::JsonWriter params;
  params.begin_object().key("ids").begin_array();
  for (auto& id : ids) params.value(id.str());
  auto answer = co_await service.handle(ask(action, params.end_array().end_object().take()), std::move(context));
  if (!answer) co_return answer.error();
  co_return runtime::read_known_ids(answer.value().data);
}

core::awaitable<Result<std::vector<core::Account>>> RemoteLedger::accounts(core::CallContext context) {
  auto answer = co_await service_.handle(ask(core::actions::kLedgerGet, "{}"), std::move(context));
  if (!answer) co_return answer.error();
  dom::parser parser;
  dom::object ledger;
  dom::array books;
  if (parser.parse(answer.value().data).get(ledger) || ledger["books"].get(books)) co_return not_understood(name_);
  std::vector<core::Account> all;
  for (auto element : books) {
    dom::object book;
    dom::array lines;
    if (element.get(book) || book["lines"].get(lines)) co_return not_understood(name_);
    core::Account account{.book = text_of(book, "book"), .lines = {}};
    for (auto line_element : lines) {
      dom::object line;
      if (line_element.get(line)) co_return not_understood(name_);
      account.lines.push_back({.action = text_of(line, "action"), .way = text_of(line, "way"), .accepted = number_of(line, "accepted"),
                               .stored = number_of(line, "stored"), .dead_lettered = number_of(line, "dead_lettered"), .discarded = number_of(line, "discarded"),
                               .expired = number_of(line, "expired"), .in_flight = number_of(line, "in_flight"), .duplicates = number_of(line, "duplicates"),
                               .redelivered = number_of(line, "redelivered")});
    }
    all.push_back(std::move(account));
  }
  co_return all;
}

}  // namespace flexi::services::broker
