// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <chrono>
#include <cstdint>
#include <memory>

#include "core/mailer.hpp"
#include "core/sent_mails.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"

namespace flexi::mailers::once {

struct OnceOptions {
  std::chrono::milliseconds send_timeout{30'000};  ///< for one mail, its wait for a connection included; the caller's deadline shortens it
  std::chrono::milliseconds lease_grace{10'000};   ///< how much longer a claim holds: what the note of the result may take
  std::size_t max_under_way = 1000;                ///< mails that are claimed, sent and noted at once; one more is `overloaded`
  std::chrono::milliseconds note_retry{500};       ///< between two tries to note what was sent while the database is away
};

/// A Mailer that sends by another, and sends no mail twice that is noted as sent: claim, send, note.
///   deliver() gives what the other gives; unavailable with retry_after while somebody else sends the same mail; conflict
///   where the id stands for another; whatever the ledger says where it can't be asked (nothing was sent)
/// Once a mail is claimed it is sent and noted even when its caller leaves or has no time left: a result that nobody noted
/// would be sent again. A mail whose server's answer was lost (Sent::maybe) is given back, and sent again when it comes
/// again: at least once.
/// Lifetime/threads: any thread; `sender`, `ledger`, `log` outlive it; stop() before it goes
class OnceMailer final : public core::Mailer {
 public:
  /// @param executor one thread's: its bookkeeping
  OnceMailer(core::Mailer& sender, core::SentMails& ledger, OnceOptions options, boost::asio::any_io_executor executor, runtime::LogSink& log,
             runtime::Metrics& metrics);
  ~OnceMailer() override;

  core::awaitable<core::Result<core::Delivered>> deliver(core::RenderedMail mail, core::CallContext context) override;

  /// Refuses new mails (unavailable), and waits for those under way, at most `grace`. What is not noted by then may be sent
  /// again after its lease.
  core::awaitable<void> stop(std::chrono::milliseconds grace);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexi::mailers::once
