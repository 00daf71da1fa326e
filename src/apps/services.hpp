// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>

#include "apps/storage.hpp"
#include "core/transport.hpp"
#include "mailers/once/once_mailer.hpp"
#include "runtime/policies/action_router.hpp"
#include "services/authentication/authentication_service.hpp"
#include "services/broker/ledger_service.hpp"
#include "services/listener/dead_letter_service.hpp"
#include "services/logger/logger_service.hpp"
#include "services/mail/mail_service.hpp"

namespace flexi::apps {

/// The services that run here over their ports, and the router that finds each by its action. Parts of other roles are
/// not there.
struct Services {
  std::optional<services::logger::LoggerService> logger;
  std::optional<services::authentication::PasswordHasher> hasher;
  std::optional<services::authentication::PasswordPolicy> policy;
  std::unique_ptr<services::authentication::Tokens> tokens;  ///< null: there is no key
  std::optional<services::authentication::AuthenticationService> authentication;
  std::unique_ptr<core::Mailer> smtp;
  std::optional<mailers::once::OnceMailer> sender;  ///< where mails go by SMTP
  std::unique_ptr<services::mail::MailService> mail;
  std::optional<services::listener::DeadLetterService> dead_letters;
  std::optional<services::broker::LedgerService> ledger;  ///< what is counted here, for the broker that adds it up
  std::unique_ptr<runtime::policies::ActionRouter> router;

  /// @param remote_logger takes the services' own entries where the logger runs elsewhere; null: none are left
  /// @param letters       the queue's; null: there is none
  core::Result<void> open(const Settings& settings, const RoleTraits& role, Storage& storage, Process& process, core::Handler* remote_logger,
                          core::DeadLetters* letters);
  /// Behind the stop of whoever calls them, before what they use: mails that are being sent are noted, and what runs behind answers ends.
  core::awaitable<void> stop(core::StopOptions options);

 private:
  core::Result<void> open_authentication(const Settings& settings, Storage& storage, Process& process, core::Handler* entries);
};

}  // namespace flexi::apps
