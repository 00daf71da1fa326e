// SPDX-License-Identifier: Apache-2.0
// The half of MailService that reads and administers the mailbox.
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

void write_summary(runtime::JsonWriter& json, const core::RenderedMail& mail) {
  json.field("id", mail.id.str()).field("from", mail.from).key("to").begin_array();
  for (const auto& recipient : mail.to) json.value(recipient);
  json.end_array().field("subject", mail.subject).field("created_at", core::to_rfc3339(mail.created_at));
}

}  // namespace

awaitable<Result<Reply>> MailService::list(std::string params, CallContext context) {
  if (!ports_.mailbox) co_return no_mailbox();
  auto query = list_params(params);
  if (!query) co_return query.error();
  auto page = co_await ports_.mailbox->list(query.value().limit, query.value().cursor, std::move(context));
  if (!page) co_return page.error();
  runtime::JsonWriter json;
  json.begin_array();
  for (const auto& mail : page.value().mails) {
    json.begin_object();
    write_summary(json, mail);
    json.end_object();
  }
  json.end_array();
  co_return Reply{.message = "ok", .data = json.take(), .next = std::move(page.value().next)};
}

awaitable<Result<Reply>> MailService::get(std::string params, CallContext context) {
  if (!ports_.mailbox) co_return no_mailbox();
  FLEXI_CO_TRY(auto object, runtime::JsonObject::parse(params));
  FLEXI_CO_TRY(auto id, id_of(object));
  FLEXI_CO_TRY(auto brief, object.boolean("brief"));
  if (auto known = object.nothing_unknown(); !known) co_return known.error();
  auto mail = co_await ports_.mailbox->get(id, std::move(context));
  if (!mail) co_return mail.error();
  runtime::JsonWriter json;
  json.begin_object();
  write_summary(json, mail.value());
  if (mail.value().via != core::Via::automatic) json.field("way", core::to_string(mail.value().via));
  runtime::write_trace(json, core::to_string(mail.value().trace_id), mail.value().hops);
  if (mail.value().duplicates) json.field("duplicates", *mail.value().duplicates);
  if (!brief.value_or(false)) json.field("html", mail.value().html).field("plain", mail.value().plain).field("source", mail.value().mime);
  json.end_object();
  co_return Reply{.message = "ok", .data = json.take()};
}

awaitable<Result<Reply>> MailService::known(std::string params, CallContext context) {
  if (!ports_.mailbox) co_return no_mailbox();
  auto ids = runtime::read_ids(params);
  if (!ids) co_return ids.error();
  auto known = co_await ports_.mailbox->known(std::move(ids).value(), std::move(context));
  if (!known) co_return known.error();
  co_return Reply{.message = "ok", .data = runtime::to_json(known.value())};
}

awaitable<Result<Reply>> MailService::remove(std::string params, CallContext context) {
  if (!ports_.mailbox) co_return no_mailbox();
  auto id = id_of(params);
  if (!id) co_return id.error();
  auto removed = co_await ports_.mailbox->remove(id.value(), std::move(context));
  if (!removed) co_return removed.error();
  co_return Reply{.message = "deleted"};
}

awaitable<Result<Reply>> MailService::release(std::string params, CallContext context) {
  if (!ports_.mailbox) co_return no_mailbox();
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
