// SPDX-License-Identifier: Apache-2.0
#include "mailers/smtp/smtp_mailer.hpp"

#include <mutex>
#include <vector>

#include "mailers/smtp/smtp_session.hpp"
#include "runtime/blocking_pool.hpp"

namespace flexi::mailers::smtp {

namespace {

/// Sessions that no thread uses. As many are made as mails were ever sent at once, so at most one per pool thread.
class IdleSessions {
 public:
  explicit IdleSessions(const SmtpOptions& options) : options_(options) {}

  std::unique_ptr<SmtpSession> take() {
    std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<SmtpSession>(options_);
    auto session = std::move(idle_.back());  // the one used last: its connection is the likeliest to be alive
    idle_.pop_back();
    return session;
  }
  void give_back(std::unique_ptr<SmtpSession> session) {
    std::lock_guard lock(mutex_);
    idle_.push_back(std::move(session));
  }

 private:
  const SmtpOptions& options_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<SmtpSession>> idle_;
};

class SmtpMailer final : public core::Mailer {
 public:
  explicit SmtpMailer(SmtpOptions options)
      : options_(std::move(options)),
        sessions_(options_),
        pool_({.name = "the SMTP mailer",
               .threads = static_cast<unsigned>(options_.connections),
               .queue_limit = static_cast<std::size_t>(options_.queue_limit)}) {}

  core::awaitable<core::Result<core::Delivered>> deliver(core::RenderedMail mail, core::CallContext context) override {
    auto job = [this, mail = std::move(mail), context]() -> core::Result<core::Delivered> {
      auto session = sessions_.take();
      auto delivered = session->send(mail, context);
      sessions_.give_back(std::move(session));
      return delivered;
    };
    co_return co_await pool_.run(std::move(job), context);
  }

 private:
  SmtpOptions options_;
  IdleSessions sessions_;
  runtime::BlockingPool pool_;  ///< last: its threads end before what they use
};

}  // namespace

std::unique_ptr<core::Mailer> make_smtp_mailer(SmtpOptions options) { return std::make_unique<SmtpMailer>(std::move(options)); }

}  // namespace flexi::mailers::smtp
