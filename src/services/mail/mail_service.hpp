// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/mailer.hpp"
#include "core/sent_mails.hpp"
#include "runtime/blocking_pool.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/options.hpp"
#include "services/mail/address.hpp"
#include "services/mail/mail_templates.hpp"

namespace flexi::services::mail {

struct MailOptions {
  std::string delivery = "auto";                  ///< mailbox: mails are caught; smtp: they are sent; auto: sent where an SMTP server is set
  std::chrono::milliseconds claim_grace{10'000};  ///< how long beyond smtp.timeout a mail belongs to the process that sends it
  std::string from_address{};                     ///< sender of mails that name none; empty: noreply@<domain>
  std::string from_name{};                        ///< that sender's display name
  std::string domain = "localhost";               ///< right side of Message-ID
  std::string templates_dir{};                    ///< folder with NAME.html and NAME.txt, read at the start; empty: the built-in mail
  std::chrono::milliseconds entry_timeout{2000};  ///< how long a mail waits for its own log entry, at most
  std::int64_t render_threads = 2;                ///< long mails that are rendered at once, apart from everything else
  std::int64_t render_queue = 64;                 ///< long mails that may wait for that; one more is `overloaded`

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// What the service works with. `mailer` is needed, the others are null where the deployment has none.
struct MailPorts {
  core::Mailer* mailer = nullptr;    ///< takes every mail
  core::Mailbox* mailbox = nullptr;  ///< null: mails.* is about `sent` alone
  core::Mailer* smtp = nullptr;      ///< where mails.release sends; null: unimplemented
  core::Handler* logger = nullptr;   ///< takes the entry that each mail leaves; its failing never fails a mail
  core::SentMails* sent = nullptr;   ///< where mails go by SMTP: what it took; null: mails.* is about the mailbox
};

/// What a mail must keep to be rendered and sent.
/// @return invalid_argument that names the field
core::Result<void> check_mail(const core::Payload& payload);

/// Answers "mail", "mails.list", "mails.get", "mails.known", "mails.delete" and "mails.release".
/// Lifetime/threads: any thread; ports and log outlive it
class MailService final : public core::Handler {
 public:
  static constexpr std::size_t kMaxSubjectBytes = 998;
  static constexpr std::size_t kMaxMessageBytes = 1u << 20;
  static constexpr std::size_t kMaxAttachments = 20;
  static constexpr std::size_t kLongMessageBytes = 8 * 1024;  ///< from here on rendering takes long enough to hold up other requests of its core

  /// @return invalid_argument where the templates can't be used
  static core::Result<std::unique_ptr<MailService>> make(MailOptions options, MailPorts ports, runtime::LogSink& log);

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  MailService(MailOptions options, MailTemplates templates, MailPorts ports, runtime::LogSink& log);

  core::awaitable<core::Result<core::Reply>> send(core::Request request, core::Mail mail, core::CallContext context);
  core::awaitable<core::Result<core::RenderedMail>> render(core::MessageId id, core::Timestamp date, core::Mail mail, core::CallContext context);
  core::Result<core::RenderedMail> render_now(const core::MessageId& id, core::Timestamp date, const core::Mail& mail) const;
  core::awaitable<void> leave_entry(core::MessageId mail_id, core::Timestamp accepted_at, std::string data, core::CallContext context);

  core::awaitable<core::Result<core::Reply>> list(std::string params, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> list_sent(unsigned limit, std::string cursor, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> get(std::string params, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> get_caught(core::MessageId id, bool brief, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> known(std::string params, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> remove(std::string params, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> release(std::string params, core::CallContext context);

  MailOptions options_;
  Address default_sender_;
  MailTemplates templates_;
  MailPorts ports_;
  runtime::LogSink& log_;
  runtime::BlockingPool renderers_;  ///< last: its threads end before what they use
};

}  // namespace flexi::services::mail
