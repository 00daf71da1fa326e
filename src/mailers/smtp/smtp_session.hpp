// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "mailers/smtp/smtp_mailer.hpp"

namespace flexi::mailers::smtp {

/// One kept connection, opened when it is first needed and again after it broke.
/// Lifetime/threads: one thread at a time
class SmtpSession {
 public:
  explicit SmtpSession(const SmtpOptions& options);  ///< `options` outlives the session
  ~SmtpSession();                                    ///< says QUIT and does not wait for the answer

  /// Blocks until the server took the mail, or for what is left of options.timeout and of the context's deadline.
  core::Result<core::Delivered> send(const core::RenderedMail& mail, const core::CallContext& context);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexi::mailers::smtp
