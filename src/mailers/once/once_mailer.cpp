// SPDX-License-Identifier: Apache-2.0
#include "mailers/once/once_mailer.hpp"

#include <openssl/evp.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <set>
#include <utility>

#include "runtime/completion.hpp"
#include "runtime/task_scope.hpp"

namespace flexi::mailers::once {

namespace asio = boost::asio;
using core::awaitable, core::CallContext, core::Delivered, core::RenderedMail, core::Result;
using Completion = std::shared_ptr<runtime::Completion<Delivered>>;

namespace {

constexpr std::chrono::milliseconds kNoteTimeout(5000);  ///< for one try

/// SHA-256 of what the caller sent; of what was made of it where that is not known.
Result<std::array<std::uint8_t, 32>> digest_of(const RenderedMail& mail) {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> hash(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  bool good = hash && EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr) == 1;
  const auto add = [&](std::string_view text) {
    const std::uint64_t size = text.size();
    good = good && EVP_DigestUpdate(hash.get(), &size, sizeof size) == 1 && EVP_DigestUpdate(hash.get(), text.data(), text.size()) == 1;
  };
  if (!mail.payload.empty()) {
    add(mail.payload);
  } else {
    add(mail.from);
    for (const auto& recipient : mail.to) add(recipient);
    for (const auto* text : {&mail.subject, &mail.html, &mail.plain}) add(*text);
  }
  std::array<std::uint8_t, 32> digest{};
  if (!good || EVP_DigestFinal_ex(hash.get(), digest.data(), nullptr) != 1) return core::internal("internal error", "SHA-256 failed");
  return digest;
}

core::SentMail note_of(const RenderedMail& mail) {
  core::SentMail note;
  note.id = mail.id, note.from = mail.from, note.to = mail.to, note.subject = mail.subject;
  note.accepted_at = mail.created_at, note.trace_id = mail.trace_id, note.hops = mail.hops;
  note.via = mail.via, note.published = mail.published;
  return note;
}

core::Error stopping() { return core::unavailable("this mail service is stopping"); }

core::Error too_many() {
  auto error = core::overloaded("too many mails are being sent");
  error.retry_after = std::chrono::seconds(1);
  return error;
}

/// The one answer to a caller, who has one whatever becomes of the work.
class Answer {
 public:
  explicit Answer(Completion done) : done_(std::move(done)) {}
  Answer(Answer&&) = default;
  ~Answer() {
    if (done_) done_->complete(runtime::cancelled_error(core::Sent::maybe));
  }
  void give(Result<Delivered> result) {
    if (auto done = std::exchange(done_, nullptr)) done->complete(std::move(result));
  }

 private:
  Completion done_;
};

}  // namespace

struct OnceMailer::Impl {
  core::Mailer& sender;
  core::SentMails& ledger;
  const OnceOptions options;
  runtime::LogSink& log;
  runtime::TaskScope scope;
  std::atomic<std::size_t> under_way{0};
  runtime::Metrics::Counter sent, repeated, refused, failed;
  runtime::Metrics::Gauge unnoted_figure;
  // Of the executor's thread.
  std::set<core::MessageId> unnoted;  ///< sent, while the note can't be written
  bool refusing = false;
  bool stopped = false;  ///< what ran was cancelled

  Impl(core::Mailer& s, core::SentMails& l, OnceOptions o, asio::any_io_executor executor, runtime::LogSink& sink, runtime::Metrics& metrics)
      : sender(s), ledger(l), options(o), log(sink), scope(std::move(executor), "mails", sink) {
    const auto outcome = [&](const char* name) {
      return metrics.counter("flexi_smtp_mails_total", "Mails handed to the SMTP server, by outcome", {{"outcome", name}});
    };
    sent = outcome("sent"), repeated = outcome("duplicate"), refused = outcome("refused"), failed = outcome("failed");
    unnoted_figure = metrics.gauge("flexi_smtp_unnoted", "Mails that were sent while the database could not note it");
  }

  void count(const Result<Delivered>& result) {
    if (result) sent.add();
    else if (result.error().kind == core::ErrorKind::invalid_argument) refused.add();
    else failed.add();
  }

  awaitable<void> work(RenderedMail mail, CallContext context, Answer answer) {
    auto result = co_await claim_and_send(std::move(mail), std::move(context), answer);
    --under_way;  // first: who is answered may come again at once
    answer.give(std::move(result));
  }

  /// @param answer given here only where the caller's time ends before the note is written
  awaitable<Result<Delivered>> claim_and_send(RenderedMail mail, CallContext context, Answer& answer) {
    if (refusing) co_return stopping();
    if (unnoted.contains(mail.id)) co_return held("this mail was sent, which could not be noted yet");
    auto digest = digest_of(mail);
    if (!digest) co_return digest.error();
    // All that follows ends within this time, so the claim outlasts it.
    context = context.limited_to(options.send_timeout);
    auto note = note_of(mail);
    note.digest = digest.value();
    const auto id = mail.id;
    auto claim = co_await ledger.claim(std::move(note), context.remaining() + options.lease_grace, context);
    if (!claim) {
      claim.error().sent = core::Sent::no;
      co_return claim.error();
    }
    if (claim.value().sent_before) {
      repeated.add();
      co_return Delivered::duplicate;
    }
    auto result = co_await sender.deliver(std::move(mail), context);
    count(result);
    if (result) {
      co_await note_sent(id, claim.value().token, context.deadline, answer);
    } else if (!stopped) {
      // Where this fails the lease ends by itself. A transfer that was left running at a stop may still succeed.
      (void)co_await ledger.release(id, claim.value().token, CallContext::with_timeout(kNoteTimeout));
    }
    co_return result;
  }

  static core::Error held(std::string message) {
    auto error = core::unavailable(std::move(message));
    error.retry_after = std::chrono::seconds(1);
    return error;
  }

  awaitable<void> note_sent(core::MessageId id, std::int64_t token, CallContext::Clock::time_point deadline, Answer& answer) {
    asio::steady_timer pause(scope.executor());
    for (bool first = true;; first = false) {
      auto noted = co_await ledger.sent(id, token, CallContext::with_timeout(kNoteTimeout));
      // not_found: purged meanwhile, so nobody can tell any more; what was sent was sent.
      const bool over = noted || noted.error().kind == core::ErrorKind::not_found;
      if (over) break;
      if (first) {
        auto& error = noted.error();
        log.warning("a mail that was sent could not be noted; trying again", {{"mail", id.str()}, {"error", error.message}, {"detail", error.detail}});
        unnoted.insert(id);
        unnoted_figure.set(static_cast<double>(unnoted.size()));
      }
      if (CallContext::Clock::now() >= deadline) answer.give(runtime::cancelled_error(core::Sent::maybe));
      pause.expires_after(options.note_retry);
      boost::system::error_code failure;
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, failure));
    }
    unnoted.erase(id);
    unnoted_figure.set(static_cast<double>(unnoted.size()));
  }
};

OnceMailer::OnceMailer(core::Mailer& sender, core::SentMails& ledger, OnceOptions options, asio::any_io_executor executor, runtime::LogSink& log,
                       runtime::Metrics& metrics)
    : impl_(std::make_unique<Impl>(sender, ledger, options, std::move(executor), log, metrics)) {}

OnceMailer::~OnceMailer() = default;

awaitable<Result<Delivered>> OnceMailer::deliver(RenderedMail mail, CallContext context) {
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::no);
  if (++impl_->under_way > impl_->options.max_under_way) {
    --impl_->under_way;
    co_return too_many();
  }
  auto start = [impl = impl_.get(), mail = std::move(mail), context = std::move(context)](Completion done) mutable {
    asio::post(impl->scope.executor(), [impl, mail = std::move(mail), context = std::move(context), done = std::move(done)]() mutable {
      impl->scope.spawn(impl->work(std::move(mail), std::move(context), Answer(std::move(done))));
    });
  };
  co_return co_await runtime::wait_for_completion<Delivered>(std::move(start), runtime::cancelled_error(core::Sent::maybe));
}

awaitable<void> OnceMailer::stop(std::chrono::milliseconds grace) {
  auto work = [](Impl* impl, std::chrono::milliseconds time) -> awaitable<void> {
    impl->refusing = true;
    asio::steady_timer patience(impl->scope.executor(), time);
    auto over = std::make_shared<bool>(false);  // the timer's answer may come when there is no Impl any more
    patience.async_wait([impl, over](boost::system::error_code failure) {
      if (failure || *over) return;
      impl->stopped = true;
      impl->scope.cancel();
    });
    co_await impl->scope.join();
    *over = true;
  };
  co_await asio::co_spawn(impl_->scope.executor(), work(impl_.get(), grace), asio::use_awaitable);
}

}  // namespace flexi::mailers::once
