// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mail_service.hpp"

namespace flexi::services::mail {

void MailOptions::describe(runtime::OptionVisitor& v) {
  using Extra = runtime::OptionVisitor::Extra;
  v.field("delivery", delivery, "Where mails go: mailbox (caught), smtp (sent), or auto (sent where smtp.host, MAIL_HOST, is set)");
  v.field("claim_grace", claim_grace, "How long a mail belongs to a process beyond the time that sending it may take: one that died leaves it for so long");
  v.field("from_address", from_address, "Sender of mails that name none; empty is noreply@<domain>", Extra{.also_env = "FROM_ADDRESS"});
  v.field("from_name", from_name, "Display name of that sender", Extra{.also_env = "FROM_NAME"});
  v.field("domain", domain, "Domain of mails' Message-ID", Extra{.also_env = "MAIL_DOMAIN"});
  v.field("templates_dir", templates_dir, "Folder with your templates, NAME.html and NAME.txt each, read at the start; empty: the built-in mail");
  v.field("entry_timeout", entry_timeout, "How long a mail waits for its own log entry, at most");
  v.field("render_threads", render_threads, "Long mails that are rendered at once");
  v.field("render_queue", render_queue, "Long mails that may wait to be rendered; more are refused with 429");
}

runtime::Problems MailOptions::validate() const {
  runtime::Problems problems;
  if (delivery != "auto" && delivery != "mailbox" && delivery != "smtp") problems.push_back({"delivery", "must be auto, mailbox or smtp"});
  if (claim_grace < std::chrono::milliseconds(100) || claim_grace > std::chrono::hours(1)) problems.push_back({"claim_grace", "must be 100ms to 1h"});
  if (!from_address.empty()) {
    if (auto address = parse_address("from_address", from_address); !address) problems.push_back({"from_address", address.error().message});
  }
  if (auto name = check_header_text("from_name", from_name, 256); !name) problems.push_back({"from_name", name.error().message});
  if (!is_domain(domain)) problems.push_back({"domain", "must be a domain, e.g. example.com"});
  if (auto templates = MailTemplates::load(templates_dir); !templates) problems.push_back({"templates_dir", templates.error().message});
  if (entry_timeout.count() < 0 || entry_timeout > std::chrono::minutes(1)) problems.push_back({"entry_timeout", "must be 0s to 1m"});
  if (render_threads < 1 || render_threads > 64) problems.push_back({"render_threads", "must be 1 to 64"});
  if (render_queue < 1 || render_queue > 10000) problems.push_back({"render_queue", "must be 1 to 10000"});
  return problems;
}

}  // namespace flexi::services::mail
