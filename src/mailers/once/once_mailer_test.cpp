// SPDX-License-Identifier: Apache-2.0
#include "mailers/once/once_mailer.hpp"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_future.hpp>
#include <future>
#include <map>

#include "runtime/shards.hpp"

namespace flexi::mailers::once {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;
using core::awaitable, core::CallContext, core::Delivered, core::ErrorKind, core::MessageId, core::Result;

/// A ledger in memory that can be away. On one thread.
class MemoryLedger final : public core::SentMails {
 public:
  awaitable<Result<core::MailClaim>> claim(core::SentMail mail, std::chrono::milliseconds lease, CallContext) override {
    if (away) co_return core::unavailable("no database");
    last_lease = lease;
    auto [row, added] = rows.try_emplace(mail.id.str(), mail);
    if (!added) {
      if (row->second.digest != mail.digest) co_return core::conflict("this id was used for another mail");
      if (row->second.state == core::SentMail::State::sent) co_return core::MailClaim{.sent_before = true};
      if (row->second.state == core::SentMail::State::sending) co_return core::unavailable("this mail is being sent already");
      row->second.state = core::SentMail::State::sending;
    }
    co_return core::MailClaim{.token = 7};
  }
  awaitable<Result<void>> sent(MessageId id, std::int64_t token, CallContext) override {
    ++notes;
    if (unwritable > 0 && unwritable--) co_return core::unavailable("disk full");
    EXPECT_EQ(token, 7);
    rows.at(id.str()).state = core::SentMail::State::sent;
    co_return core::ok();
  }
  awaitable<Result<void>> release(MessageId id, std::int64_t, CallContext) override {
    rows.at(id.str()).state = core::SentMail::State::unsent;
    co_return core::ok();
  }
  awaitable<Result<core::SentMailPage>> list(unsigned, std::string, CallContext) override { co_return core::SentMailPage{}; }
  awaitable<Result<core::SentMail>> get(MessageId id, CallContext) override { co_return rows.at(id.str()); }
  awaitable<Result<core::KnownIds>> known(std::vector<MessageId>, CallContext) override { co_return core::KnownIds{}; }

  core::SentMail::State state(const std::string& id) { return rows.at(id).state; }
  std::map<std::string, core::SentMail> rows;
  bool away = false;
  int unwritable = 0, notes = 0;
  std::chrono::milliseconds last_lease{};
};

/// Sends at once, fails, or waits until it is let go.
class ScriptedSender final : public core::Mailer {
 public:
  explicit ScriptedSender(asio::any_io_executor executor) : gate(executor, asio::steady_timer::time_point::max()) {}
  awaitable<Result<Delivered>> deliver(core::RenderedMail, CallContext context) override {
    ++begun;
    last_context = context;
    if (held) {
      boost::system::error_code ignored;
      co_await gate.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (failure) co_return *failure;
    ++sent;
    co_return Delivered::sent;
  }
  asio::steady_timer gate;
  bool held = false;
  std::optional<core::Error> failure;
  int begun = 0, sent = 0;
  CallContext last_context;
};

struct OnceMailerTest : testing::Test {
  ~OnceMailerTest() override {
    if (mailer) stop(1h);
    mailer.reset();
  }
  void make(OnceOptions options = {.note_retry = 1ms}) {
    mailer = std::make_unique<OnceMailer>(sender, ledger, options, shards.executor(0), runtime::LogSink::none(), metrics);
  }
  static core::RenderedMail mail(std::string id, std::string payload = "p") {
    core::RenderedMail made;
    made.id = MessageId::parse(id).value();
    made.payload = std::move(payload);
    return made;
  }
  template <class T>
  T wait(awaitable<T> work) {
    std::optional<T> result;
    shards.run([](awaitable<T> inner, std::optional<T>& out) -> awaitable<void> { out.emplace(co_await std::move(inner)); }(std::move(work), result));
    return std::move(*result);
  }
  Result<Delivered> deliver(core::RenderedMail made, CallContext context = CallContext::with_timeout(60s)) {
    return wait(mailer->deliver(std::move(made), std::move(context)));
  }
  std::future<Result<Delivered>> begin(core::RenderedMail made) {
    auto answer = std::make_shared<std::promise<Result<Delivered>>>();
    auto run = [](OnceMailer& m, core::RenderedMail one, std::shared_ptr<std::promise<Result<Delivered>>> to) -> awaitable<void> {
      to->set_value(co_await m.deliver(std::move(one), CallContext::with_timeout(60s)));
    };
    asio::co_spawn(shards.executor(0), run(*mailer, std::move(made), answer), [](std::exception_ptr) {});
    return answer->get_future();
  }
  void stop(std::chrono::milliseconds grace) {
    shards.run([](OnceMailer& m, std::chrono::milliseconds time) -> awaitable<void> { co_await m.stop(time); }(*mailer, grace));
  }
  /// Until what was posted before has run.
  void settle(const std::function<bool()>& there) {
    for (bool done = false; !done;) {
      std::promise<bool> asked;
      asio::post(shards.executor(0), [&] { asked.set_value(there()); });
      done = asked.get_future().get();
    }
  }
  void let_go() {
    asio::post(shards.executor(0), [this] { sender.held = false, sender.gate.cancel(); });
  }
  runtime::Metrics metrics;
  runtime::Shards shards{1};
  MemoryLedger ledger;
  ScriptedSender sender{shards.executor(0)};
  std::unique_ptr<OnceMailer> mailer;
};

TEST_F(OnceMailerTest, WhatWasSentIsNotSentAgain) {
  make();
  EXPECT_EQ(deliver(mail("a")).value(), Delivered::sent);
  EXPECT_EQ(deliver(mail("a")).value(), Delivered::duplicate);
  EXPECT_EQ(deliver(mail("a", "other")).error().kind, ErrorKind::conflict);
  EXPECT_EQ(sender.sent, 1);
}

TEST_F(OnceMailerTest, AFailureGivesTheMailBack) {
  make();
  for (auto failure : {core::unavailable("451"), core::invalid_argument("550")}) {
    sender.failure = failure;
    auto refused = deliver(mail("a"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, failure.kind);
    EXPECT_EQ(ledger.state("a"), core::SentMail::State::unsent);
  }
  sender.failure.reset();
  EXPECT_EQ(deliver(mail("a")).value(), Delivered::sent);
}

TEST_F(OnceMailerTest, AnAnswerThatWasLostIsSentAgainWhenItComesAgain) {
  make();
  sender.failure = core::unavailable("cut");
  sender.failure->sent = core::Sent::maybe;
  EXPECT_EQ(deliver(mail("a")).error().sent, core::Sent::maybe);
  sender.failure.reset();
  EXPECT_EQ(deliver(mail("a")).value(), Delivered::sent);
}

TEST_F(OnceMailerTest, WithoutTheLedgerNothingIsSent) {
  make();
  ledger.away = true;
  auto refused = deliver(mail("a"));
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  EXPECT_EQ(sender.begun, 0);
  ledger.away = false;
  EXPECT_TRUE(deliver(mail("a")));
}

TEST_F(OnceMailerTest, ACallerWhoLeavesLeavesANoteAllTheSame) {
  make();
  sender.held = true;
  shards.run([](OnceMailer& mailer, core::RenderedMail made) -> awaitable<void> {
    using namespace asio::experimental::awaitable_operators;
    asio::steady_timer leaves(co_await asio::this_coro::executor, 1ms);
    auto first = co_await (mailer.deliver(std::move(made), CallContext::with_timeout(60s)) || leaves.async_wait(asio::use_awaitable));
    EXPECT_EQ(first.index(), 1u);
  }(*mailer, mail("a")));
  let_go();
  settle([&] { return ledger.notes == 1; });
  EXPECT_EQ(ledger.state("a"), core::SentMail::State::sent);
  EXPECT_EQ(deliver(mail("a")).value(), Delivered::duplicate);
}

TEST_F(OnceMailerTest, WhatCanNotBeNotedIsNotedLaterAndNotSentMeanwhile) {
  make({.note_retry = 1h});
  ledger.unwritable = 1;
  auto first = begin(mail("a"));
  settle([&] { return ledger.notes == 1; });
  ledger.rows.clear();  // as if its lease were over
  auto again = deliver(mail("a"));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(again.error().retry_after);
  EXPECT_EQ(sender.sent, 1);
  stop(0ms);
  EXPECT_EQ(first.get().error().sent, core::Sent::maybe) << "answered in any case";

  make();
  ledger.unwritable = 3;
  EXPECT_EQ(deliver(mail("b")).value(), Delivered::sent) << "once it is noted";
  EXPECT_EQ(ledger.state("b"), core::SentMail::State::sent);
}

TEST_F(OnceMailerTest, ACallerWhoseTimeIsOverIsToldSoAndTheNoteFollows) {
  make();
  ledger.unwritable = 1'000'000;
  auto late = deliver(mail("a"), CallContext::with_timeout(500ms));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(late.error().sent, core::Sent::maybe);
  asio::post(shards.executor(0), [&] { ledger.unwritable = 0; });
  settle([&] { return ledger.state("a") == core::SentMail::State::sent; });
}

TEST_F(OnceMailerTest, TheClaimOutlastsTheSending) {
  make({.send_timeout = 5s, .lease_grace = 3s});
  EXPECT_TRUE(deliver(mail("a"), CallContext{}));
  EXPECT_LE(sender.last_context.remaining(), 5s);
  EXPECT_GE(ledger.last_lease, sender.last_context.remaining() + 3s);
  EXPECT_EQ(deliver(mail("b"), CallContext::with_timeout(0ms)).error().sent, core::Sent::no);
}

TEST_F(OnceMailerTest, NotMoreThanSoManyAtOnce) {
  make({.max_under_way = 1});
  sender.held = true;
  auto first = begin(mail("a"));
  settle([&] { return sender.begun == 1; });
  auto refused = deliver(mail("b"));
  EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
  EXPECT_TRUE(refused.error().retry_after);
  let_go();
  EXPECT_TRUE(first.get());
  settle([&] { return true; });
  EXPECT_TRUE(deliver(mail("b")));
}

TEST_F(OnceMailerTest, StoppingWaitsForWhatRunsAndTakesNoMore) {
  make();
  sender.held = true;
  auto first = begin(mail("a"));
  settle([&] { return sender.begun == 1; });
  auto stopped = asio::co_spawn(shards.executor(0), mailer->stop(1h), asio::use_future);
  auto refused = deliver(mail("b"));
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  let_go();
  EXPECT_EQ(first.get().value(), Delivered::sent);
  stopped.get();
  EXPECT_EQ(ledger.state("a"), core::SentMail::State::sent);
}

TEST_F(OnceMailerTest, AStopWithoutTimeLeavesTheClaimToItsLease) {
  make();
  sender.held = true;
  auto first = begin(mail("a"));
  settle([&] { return sender.begun == 1; });
  stop(0ms);
  EXPECT_EQ(first.get().error().sent, core::Sent::maybe);
  EXPECT_EQ(ledger.state("a"), core::SentMail::State::sending);
}

}  // namespace
}  // namespace flexi::mailers::once
