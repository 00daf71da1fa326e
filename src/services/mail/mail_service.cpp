// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mail_service.hpp"

#include <simdjson.h>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include "runtime/json.hpp"
#include "core/hops.hpp"
#include "services/mail/mime_composer.hpp"
#include "services/mail/template_data.hpp"

namespace flexi::services::mail {

namespace asio = boost::asio;
using core::awaitable, core::CallContext, core::Reply, core::Request, core::Result;

namespace {

core::Result<void> check_message(const std::string& message) {
  if (message.size() > MailService::kMaxMessageBytes)
    return core::invalid_argument("message must be at most " + std::to_string(MailService::kMaxMessageBytes) + " bytes");
  if (message.find('\0') != std::string::npos) return core::invalid_argument("message must not contain NUL");
  if (!simdjson::validate_utf8(message.data(), message.size())) return core::invalid_argument("message must be valid UTF-8");
  return core::ok();
}

/// Everybody whom a mail names.
struct Addresses {
  std::optional<Address> from, reply_to;
  std::vector<Address> to, cc, bcc;

  /// Each once, whoever names it: a server would send it twice.
  std::vector<std::string> envelope() const {
    std::vector<std::string> all;
    for (auto* list : {&to, &cc, &bcc})
      for (const auto& address : *list)
        if (std::find(all.begin(), all.end(), address.addr_spec) == all.end()) all.push_back(address.addr_spec);
    return all;
  }
};

core::Result<Addresses> read_addresses(const core::Mail& mail) {
  Addresses all;
  if (!mail.from.empty()) {
    FLEXI_TRY(all.from, parse_address("from", mail.from));
  }
  FLEXI_TRY(all.to, parse_address_list("to", mail.to));
  if (!mail.cc.empty()) {
    FLEXI_TRY(all.cc, parse_address_list("cc", mail.cc));
  }
  if (!mail.bcc.empty()) {
    FLEXI_TRY(all.bcc, parse_address_list("bcc", mail.bcc));
  }
  if (all.to.size() + all.cc.size() + all.bcc.size() > kMaxRecipients)
    return core::invalid_argument("to, cc and bcc may hold at most " + std::to_string(kMaxRecipients) + " addresses together");
  if (!mail.reply_to.empty()) {
    FLEXI_TRY(all.reply_to, parse_address("reply_to", mail.reply_to));
    // The envelope does not name it, so no server is asked whether it takes such a header.
    if (!all.reply_to->is_ascii()) return core::invalid_argument("reply_to: the part before @ must be ASCII");
  }
  return all;
}

core::Result<Addresses> check_content(const core::Mail& mail) {
  FLEXI_TRY(auto addresses, read_addresses(mail));
  FLEXI_TRY(check_header_text("subject", mail.subject, MailService::kMaxSubjectBytes));
  FLEXI_TRY(check_message(mail.message));
  if (!mail.template_name.empty() && !is_template_name(mail.template_name))
    return core::invalid_argument("template must be a template's name: letters, digits, - and _");
  FLEXI_TRY(check_template_data(mail.data));
  if (mail.attachments.size() > MailService::kMaxAttachments)
    return core::invalid_argument("attachments may hold at most " + std::to_string(MailService::kMaxAttachments) + " files");
  for (std::size_t i = 0; i < mail.attachments.size(); ++i) {
    FLEXI_TRY(check_attachment(mail.attachments[i], i));
  }
  return addresses;
}

/// Long enough to hold up other requests of its core.
bool is_long(const core::Mail& mail) {
  std::size_t bytes = mail.message.size() + mail.data.size();
  for (const auto& attachment : mail.attachments) bytes += attachment.content.size();
  return bytes >= MailService::kLongMessageBytes;
}

/// What the caller sent as one text. The first part is what older versions knew a mail by.
std::string payload_of(const core::Mail& mail) {
  runtime::JsonWriter json;
  json.begin_object().field("from", mail.from).field("to", mail.to).field("subject", mail.subject).field("message", mail.message);
  std::string payload = json.end_object().take();
  const auto add = [&payload](std::string_view name, std::string_view value) {
    payload.append("\n").append(name).append(" ").append(std::to_string(value.size())).append(" ").append(value);
  };
  for (auto& [name, text] : core::kMailExtras)
    if (!(mail.*text).empty()) add(name, mail.*text);
  for (const auto& attachment : mail.attachments)
    add("name", attachment.name), add("content_type", attachment.content_type), add("content", attachment.content);
  return payload;
}

/// The entry's id follows from the mail's, so that a mail that comes twice leaves one entry.
core::MessageId entry_id(const core::MessageId& mail_id) {
  auto id = core::MessageId::parse("mail-entry:" + mail_id.str());
  return id ? std::move(id).value() : core::MessageId::generate();
}

awaitable<void> wait_until(CallContext::Clock::time_point time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace

core::Result<void> check_mail(const core::Payload& payload) {
  auto* mail = std::get_if<core::Mail>(&payload);
  if (!mail) return core::invalid_argument("mail must hold to, subject and message");
  FLEXI_TRY(check_content(*mail));
  return core::ok();
}

core::Result<std::unique_ptr<MailService>> MailService::make(MailOptions options, MailPorts ports, runtime::LogSink& log) {
  FLEXI_TRY(auto templates, MailTemplates::load(options.templates_dir));
  Address sender{options.from_name, "noreply@" + options.domain};
  if (!options.from_address.empty()) {
    FLEXI_TRY(auto configured, parse_address("from_address", options.from_address));
    sender.addr_spec = configured.addr_spec;
    if (sender.name.empty()) sender.name = configured.name;
  }
  std::unique_ptr<MailService> service(new MailService(std::move(options), std::move(templates), ports, log));
  service->default_sender_ = std::move(sender);
  return service;
}

MailService::MailService(MailOptions options, MailTemplates templates, MailPorts ports, runtime::LogSink& log)
    : options_(std::move(options)), templates_(std::move(templates)), ports_(ports), log_(log),
      renderers_({.name = "the rendering of mails", .threads = static_cast<unsigned>(options_.render_threads),
                  .queue_limit = static_cast<std::size_t>(options_.render_queue)}) {}

awaitable<Result<Reply>> MailService::handle(Request request, CallContext context) {
  if (context.expired()) co_return core::deadline_exceeded("the request was not answered in time");
  if (request.action == core::actions::kMail) {
    auto* mail = std::get_if<core::Mail>(&request.payload);
    if (!mail) co_return core::invalid_argument("mail must be an object with from, to, subject and message");
    auto content = std::move(*mail);
    co_return co_await send(std::move(request), std::move(content), std::move(context));
  }
  auto* params = std::get_if<core::Json>(&request.payload);
  std::string text = params ? std::move(params->text) : std::string("{}");
  if (request.action == core::actions::kMailsList) co_return co_await list(std::move(text), std::move(context));
  if (request.action == core::actions::kMailsGet) co_return co_await get(std::move(text), std::move(context));
  if (request.action == core::actions::kMailsKnown) co_return co_await known(std::move(text), std::move(context));
  if (request.action == core::actions::kMailsDelete) co_return co_await remove(std::move(text), std::move(context));
  if (request.action == core::actions::kMailsRelease) co_return co_await release(std::move(text), std::move(context));
  co_return core::unimplemented("unknown action");
}

awaitable<Result<core::RenderedMail>> MailService::render(core::MessageId id, core::Timestamp date, core::Mail mail, CallContext context) {
  if (!is_long(mail)) co_return render_now(id, date, mail);
  auto job = [this, id = std::move(id), date, mail = std::move(mail)] { return render_now(id, date, mail); };
  auto rendered = co_await renderers_.run(std::move(job), std::move(context));
  if (!rendered) rendered.error().sent = core::Sent::no;
  co_return rendered;
}

core::Result<core::RenderedMail> MailService::render_now(const core::MessageId& id, core::Timestamp date, const core::Mail& mail) const {
  FLEXI_TRY(auto addresses, check_content(mail));
  FLEXI_TRY(auto parts, templates_.render(mail));
  core::RenderedMail rendered;
  rendered.id = id;
  rendered.payload = payload_of(mail);
  rendered.to = addresses.envelope();

  MimeContent content;
  content.id = id;
  content.domain = options_.domain;
  content.date = date;
  content.subject = mail.subject;
  content.from = addresses.from.value_or(default_sender_);
  content.to = std::move(addresses.to), content.cc = std::move(addresses.cc), content.reply_to = std::move(addresses.reply_to);
  content.html = std::move(parts.html), content.plain = std::move(parts.plain);
  content.attachments = mail.attachments;
  rendered.mime = compose_mime(content);
  rendered.from = std::move(content.from.addr_spec);
  rendered.subject = std::move(content.subject);
  rendered.html = std::move(content.html);
  rendered.plain = std::move(content.plain);
  rendered.created_at = content.date;
  return rendered;
}

awaitable<Result<Reply>> MailService::send(Request request, core::Mail mail, CallContext context) {
  if (request.accepted_at == core::Timestamp{}) request.accepted_at = std::chrono::system_clock::now();
  const auto to = mail.to, subject = mail.subject;
  auto rendered = co_await render(request.id, request.accepted_at, std::move(mail), context);
  if (!rendered) co_return rendered.error();
  context.add_hop("mail");
  rendered.value().trace_id = context.trace.trace_id;
  rendered.value().hops = context.hops;
  const auto way = core::departed_by(context.hops);
  rendered.value().via = way.value_or(request.via);
  rendered.value().published = core::counted_by_publisher(context.hops);
  auto delivered = co_await ports_.mailer->deliver(std::move(rendered).value(), context);
  if (!delivered) co_return delivered.error();
  Reply reply{.message = "sent to " + to, .duplicate = delivered.value() == core::Delivered::duplicate};
  if (ports_.logger) {
    std::string data = reply.message + ": " + subject;
    co_await leave_entry(std::move(request.id), request.accepted_at, std::move(data), std::move(context));
  }
  co_return reply;
}

awaitable<void> MailService::leave_entry(core::MessageId mail_id, core::Timestamp accepted_at, std::string data, CallContext context) {
  using namespace asio::experimental::awaitable_operators;
  // Half of what is left at most, so that a logger that hangs can't take the mail's answer with it.
  CallContext entry_context = context.limited_to(std::min(options_.entry_timeout, context.remaining() / 2));
  entry_context.caller.clear();
  // An entry of the mail's trace, but a message of its own: it begins here.
  entry_context.hops.clear();
  entry_context.add_hop("mail");
  Request entry;
  entry.id = entry_id(mail_id);
  entry.action = core::actions::kLog;
  entry.payload = core::LogEntry{"mail", std::move(data)};
  entry.accepted_at = accepted_at;
  std::string why;
  try {
    auto stored = co_await (ports_.logger->handle(std::move(entry), entry_context) || wait_until(entry_context.deadline));
    if (stored.index() == 1) {
      why = "not answered in time";
    } else if (auto& result = std::get<0>(stored); !result) {
      why = result.error().message + (result.error().detail.empty() ? "" : ": " + result.error().detail);
    }
  } catch (const std::exception& e) {  // a bug of the logger's, or the mail's caller went away
    why = e.what();
  }
  if (!why.empty()) log_.warning("a mail's log entry was not stored", {{"mail", mail_id.str()}, {"error", why}});
}

}  // namespace flexi::services::mail
