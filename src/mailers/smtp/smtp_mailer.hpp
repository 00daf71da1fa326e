// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/mailer.hpp"
#include "runtime/options.hpp"

namespace flexi::mailers::smtp {

struct SmtpOptions {
  std::string host{};                                ///< empty: no SMTP server is configured
  std::int64_t port = 1025;                          ///< 25 relays, 465 is ssl's, 587 submission's, 1025 a catcher's
  std::string username{};                            ///< empty: no login
  std::string password{};
  std::string encryption = "none";                   ///< none, ssl (TLS from the start), tls (STARTTLS, refused where the server has none)
  std::string ca_file{};                             ///< certificates to trust; empty: the system's
  std::string helo_name = "localhost";               ///< how this host introduces itself
  std::chrono::milliseconds connect_timeout{5000};   ///< until connected; DNS and TLS included
  std::chrono::milliseconds timeout{30000};          ///< for a whole mail; the caller's deadline shortens both
  std::chrono::milliseconds deferred_retry{30000};   ///< Retry-After of a mail that the server refuses for now (4xx)
  std::int64_t connections = 4;                      ///< mails sent at once, each on a connection that is kept
  std::int64_t queue_limit = 256;                    ///< mails that may wait; one more is `overloaded`

  bool configured() const { return !host.empty(); }
  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// Sends each mail's `mime` as it is to one SMTP server. All recipients or none; at least once, as SMTP is: it never
/// tries again by itself. Certificates and host names are checked.
///   deliver() gives invalid_argument with the server's words for 5xx, and where an address needs SMTPUTF8 and the server
///   has none; unavailable for 4xx, a failed login and a connection that can't be had (nothing sent), and for one that
///   broke behind the last byte (maybe sent)
/// Cancellation: the caller leaves; the transfer ends by its own time-out, below the caller's deadline
/// Lifetime/threads: any thread; the destructor waits for running transfers
/// Source: RFC 5321, RFC 3207, RFC 4954, RFC 6531
/// @param options validated, with a host
std::unique_ptr<core::Mailer> make_smtp_mailer(SmtpOptions options);

}  // namespace flexi::mailers::smtp
