// SPDX-License-Identifier: Apache-2.0
#include "apps/services.hpp"

#include "mailers/smtp/smtp_mailer.hpp"

namespace flexi::apps {

namespace actions = core::actions;
using core::Result;

namespace {

mailers::once::OnceOptions once_options(const Settings& settings) {
  return {.send_timeout = settings.smtp.timeout,
          .lease_grace = settings.mail.claim_grace,
          .max_under_way = static_cast<std::size_t>(settings.smtp.connections + settings.smtp.queue_limit)};
}

}  // namespace

Result<void> Services::open(const Settings& settings, const RoleTraits& role, Storage& storage, Process& process, core::Handler* remote_logger,
                            core::DeadLetters* letters) {
  std::vector<runtime::policies::ActionRoute> routes;
  core::Handler* entries = remote_logger;
  if (role.logger) {
    entries = &logger.emplace(*storage.logs, settings.logger);
    routes.push_back({std::string(actions::kLog), *logger});
    routes.push_back({"logs.", *logger});
  }
  if (role.authentication) {
    FLEXI_TRY(open_authentication(settings, storage, process, entries));
    routes.push_back({std::string(actions::kAuth), *authentication});
    routes.push_back({"users.", *authentication});
    routes.push_back({"me.", *authentication});
  }
  if (role.mail) {
    if (settings.smtp.configured()) smtp = mailers::smtp::make_smtp_mailer(settings.smtp);
    services::mail::MailPorts ports{
        .mailer = storage.mailbox.get(), .mailbox = storage.mailbox.get(), .smtp = smtp.get(), .logger = entries, .sent = storage.sent_mails.get()};
    if (storage.sent_mails)
      ports.mailer = &sender.emplace(*smtp, *storage.sent_mails, once_options(settings), process.shards.executor(0), process.log, process.metrics);
    FLEXI_TRY(mail, services::mail::MailService::make(settings.mail, ports, process.log));
    routes.push_back({std::string(actions::kMail), *mail});
    routes.push_back({"mails.", *mail});
  }
  if (role.logger || role.mail) routes.push_back({"ledger.", ledger.emplace(storage.books())});
  if (letters) routes.push_back({"dlq.", dead_letters.emplace(*letters)});
  router = std::make_unique<runtime::policies::ActionRouter>(std::move(routes));
  return core::ok();
}

Result<void> Services::open_authentication(const Settings& settings, Storage& storage, Process& process, core::Handler* entries) {
  const auto& options = settings.authentication;
  hasher.emplace(options.passwords, process.metrics);
  policy.emplace(options.min_password_length);
  if (!options.common_passwords_file.empty()) {
    FLEXI_TRY(policy->add_common(options.common_passwords_file));
  }
  if (const auto& key = options.token_key_file.empty() ? storage.token_key_file : options.token_key_file; !key.empty()) {
    FLEXI_TRY(tokens, services::authentication::Tokens::open(key, options.token_options()));
  }
  authentication.emplace(services::authentication::AuthenticationParts{.users = *storage.users, .hasher = *hasher, .policy = *policy, .log = process.log,
                                                                       .metrics = process.metrics, .executor = process.shards.executor(0), .logger = entries,
                                                                       .tokens = tokens.get()},
                         options);
  return core::ok();
}

core::awaitable<void> Services::stop(core::StopOptions options) {
  if (sender) co_await sender->stop(options.grace);
  if (authentication) co_await authentication->stop();
}

}  // namespace flexi::apps
