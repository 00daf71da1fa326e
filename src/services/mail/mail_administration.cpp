// SPDX-License-Identifier: Apache-2.0
// The half of MailService that reads and administers what became of mails: the mailbox's, and those that SMTP took.
#include <algorithm>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "runtime/known_ids_json.hpp"
#include "runtime/trace_json.hpp"
#include "services/mail/mail_service.hpp"

namespace flexi::services::mail {

using core::awaitable, core::CallContext, core::Reply, core::Result;

namespace {

constexpr std::int64_t kDefaultLimit = 50;
constexpr std::int64_t kMaxLimit = 500;

core::Error no_mailbox() { return core::unimplemented("this mail service keeps no mails"); }

core::Result<core::MessageId> id_of(const runtime::JsonObject& params) {
  FLEXI_TRY(auto text, params.required_string("id"));
  return core::MessageId::parse(text);
}

core::Result<core::MessageId> id_of(const std::string& params) {
  FLEXI_TRY(auto object, runtime::JsonObject::parse(params));
  FLEXI_TRY(auto id, id_of(object));
  FLEXI_TRY(object.nothing_unknown());
  return id;
}

struct ListParams {
  unsigned limit = kDefaultLimit;
  std::string cursor;
};

core::Result<ListParams> list_params(const std::string& params) {
  FLEXI_TRY(auto object, runtime::JsonObject::parse(params));
  FLEXI_TRY(auto limit, object.integer("limit"));
  FLEXI_TRY(auto cursor, object.string("cursor"));
  FLEXI_TRY(object.nothing_unknown());
  if (limit && (*limit < 1 || *limit > kMaxLimit)) return core::invalid_argument("limit must be 1 to " + std::to_string(kMaxLimit));
  return ListParams{static_cast<unsigned>(limit.value_or(kDefaultLimit)), cursor.value_or("")};
}

/// @param mail a RenderedMail or a SentMail
void write_summary(runtime::JsonWriter& json, const auto& mail, core::Timestamp created_at) {
  json.field("id", mail.id.str()).field("from", mail.from).key("to").begin_array();
  for (const auto& recipient : mail.to) json.value(recipient);
  json.end_array().field("subject", mail.subject).field("created_at", core::to_rfc3339(created_at));
}

void write_journey(runtime::JsonWriter& json, const auto& mail) {
  if (mail.via != core::Via::automatic) json.field("way", core::to_string(mail.via));
  runtime::write_trace(json, core::to_string(mail.trace_id), mail.hops);
  if (mail.duplicates) json.field("duplicates", *mail.duplicates);
}

std::string_view to_string(core::SentMail::State state) {
  switch (state) {
    case core::SentMail::State::sending: return "sending";
    case core::SentMail::State::sent: return "sent";
    case core::SentMail::State::undecided: return "undecided";
    case core::SentMail::State::unsent: return "unsent";
  }
  return "undecided";
}

void write_state(runtime::JsonWriter& json, const core::SentMail& mail) {
  json.field("state", to_string(mail.state)).field("updated_at", core::to_rfc3339(mail.at)).field("attempts", mail.attempts);
}

core::Error no_copy(std::string_view what) {
  return core::unimplemented("mails go by SMTP here and no copy is kept: there is nothing to " + std::string(what));
}

bool is_missing(const auto& result) { return !result && result.error().kind == core::ErrorKind::not_found; }

}  // namespace

awaitable<Result<Reply>> MailService::list(std::string params, CallContext context) {
  if (!ports_.mailbox && !ports_.sent) co_return no_mailbox();
  auto query = list_params(params);
  if (!query) co_return query.error();
  if (ports_.sent) co_return co_await list_sent(query.value().limit, std::move(query.value().cursor), std::move(context));
  auto page = co_await ports_.mailbox->list(query.value().limit, query.value().cursor, std::move(context));
  if (!page) co_return page.error();
  runtime::JsonWriter json;
  json.begin_array();
  for (const auto& mail : page.value().mails) {
    json.begin_object();
    write_summary(json, mail, mail.created_at);
    json.end_object();
  }
  json.end_array();
  co_return Reply{.message = "ok", .data = json.take(), .next = std::move(page.value().next)};
}

awaitable<Result<Reply>> MailService::list_sent(unsigned limit, std::string cursor, CallContext context) {
  auto page = co_await ports_.sent->list(limit, std::move(cursor), std::move(context));
  if (!page) co_return page.error();
  runtime::JsonWriter json;
  json.begin_array();
  for (const auto& mail : page.value().mails) {
    json.begin_object();
    write_summary(json, mail, mail.accepted_at);
    write_state(json, mail);
    json.end_object();
  }
  json.end_array();
  co_return Reply{.message = "ok", .data = json.take(), .next = std::move(page.value().next)};
}

awaitable<Result<Reply>> MailService::get(std::string params, CallContext context) {
  if (!ports_.mailbox && !ports_.sent) co_return no_mailbox();
  FLEXI_CO_TRY(auto object, runtime::JsonObject::parse(params));
  FLEXI_CO_TRY(auto id, id_of(object));
  FLEXI_CO_TRY(auto brief, object.boolean("brief"));
  if (auto known = object.nothing_unknown(); !known) co_return known.error();
  if (ports_.sent) {
    auto mail = co_await ports_.sent->get(id, context);
    // What was caught before mails went by SMTP is still there.
    if (is_missing(mail) && ports_.mailbox) co_return co_await get_caught(std::move(id), brief.value_or(false), std::move(context));
    if (!mail) co_return mail.error();
    runtime::JsonWriter json;
    json.begin_object();
    write_summary(json, mail.value(), mail.value().accepted_at);
    write_state(json, mail.value());
    write_journey(json, mail.value());
    co_return Reply{.message = "ok", .data = json.end_object().take()};
  }
  co_return co_await get_caught(std::move(id), brief.value_or(false), std::move(context));
}

awaitable<Result<Reply>> MailService::get_caught(core::MessageId id, bool brief, CallContext context) {
  auto mail = co_await ports_.mailbox->get(std::move(id), std::move(context));
  if (!mail) co_return mail.error();
  runtime::JsonWriter json;
  json.begin_object();
  write_summary(json, mail.value(), mail.value().created_at);
  write_journey(json, mail.value());
  if (!brief) json.field("html", mail.value().html).field("plain", mail.value().plain).field("source", mail.value().mime);
  json.end_object();
  co_return Reply{.message = "ok", .data = json.take()};
}

awaitable<Result<Reply>> MailService::known(std::string params, CallContext context) {
  if (!ports_.mailbox && !ports_.sent) co_return no_mailbox();
  FLEXI_CO_TRY(auto ids, runtime::read_ids(params));
  core::KnownIds all;
  if (ports_.sent) {
    FLEXI_CO_TRY(all, co_await ports_.sent->known(ids, context));
  }
  if (ports_.mailbox) {
    FLEXI_CO_TRY(auto caught, co_await ports_.mailbox->known(std::move(ids), std::move(context)));
    for (auto& id : caught.ids)
      if (std::find(all.ids.begin(), all.ids.end(), id) == all.ids.end()) all.ids.push_back(std::move(id));
    all.kept_since = std::max(all.kept_since, caught.kept_since);
  }
  co_return Reply{.message = "ok", .data = runtime::to_json(all)};
}

awaitable<Result<Reply>> MailService::remove(std::string params, CallContext context) {
  auto id = id_of(params);
  if (!id) co_return id.error();
  if (!ports_.mailbox) co_return ports_.sent ? no_copy("delete") : no_mailbox();
  auto removed = co_await ports_.mailbox->remove(id.value(), std::move(context));
  if (is_missing(removed) && ports_.sent) co_return no_copy("delete");
  if (!removed) co_return removed.error();
  co_return Reply{.message = "deleted"};
}

awaitable<Result<Reply>> MailService::release(std::string params, CallContext context) {
  if (!ports_.mailbox) co_return ports_.sent ? no_copy("release") : no_mailbox();
  if (!ports_.smtp) co_return core::unimplemented("no SMTP server is configured: set MAIL_HOST");
  auto object = runtime::JsonObject::parse(params);
  if (!object) co_return object.error();
  auto id = id_of(object.value());
  if (!id) co_return id.error();
  auto to = object.value().string("to");
  if (!to) co_return to.error();
  if (auto known = object.value().nothing_unknown(); !known) co_return known.error();
  std::vector<std::string> recipients;
  if (to.value()) {
    auto addresses = parse_address_list("to", *to.value());
    if (!addresses) co_return addresses.error();
    for (auto& address : addresses.value()) recipients.push_back(std::move(address.addr_spec));
  }

  auto mail = co_await ports_.mailbox->get(id.value(), context);
  if (is_missing(mail) && ports_.sent) co_return no_copy("release");
  if (!mail) co_return mail.error();
  // Only the envelope changes: the message stays the very one that was caught.
  if (!recipients.empty()) mail.value().to = std::move(recipients);
  std::string released_to;
  for (const auto& recipient : mail.value().to) released_to.append(released_to.empty() ? "" : ", ").append(recipient);
  auto sent = co_await ports_.smtp->deliver(std::move(mail).value(), std::move(context));
  if (!sent) co_return sent.error();
  co_return Reply{.message = "released to " + released_to};
}

}  // namespace flexi::services::mail
