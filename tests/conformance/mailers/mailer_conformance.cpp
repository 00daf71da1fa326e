// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdlib>
#include <future>
#include <optional>

#include "mailer_under_test.hpp"

namespace flexi::conformance {
namespace {

using namespace std::chrono_literals;
using core::Delivered, core::ErrorKind, core::RenderedMail, core::Result;
using Subjects = std::vector<std::string>;

struct MailerConformance : testing::TestWithParam<MailerKind> {
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "flexi-mailers-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder = name;
    under_test = GetParam().make(folder, shards);
    ASSERT_TRUE(under_test->open());
  }
  void TearDown() override {
    under_test->close();
    shards.join();
    under_test.reset();
    std::filesystem::remove_all(folder);
  }
  static RenderedMail mail(const std::string& id, const std::string& content = "s", const std::string& to = "to@example.com") {
    RenderedMail made;
    made.id = core::MessageId::parse(id).value();
    made.from = "from@example.com";
    made.to = {to};
    made.subject = content;
    made.payload = content;
    made.mime = "Subject: " + content + "\r\n\r\nhello\r\n";
    return made;
  }
  Result<Delivered> deliver(RenderedMail made, core::CallContext context = core::CallContext::with_timeout(20s)) {
    std::optional<Result<Delivered>> result;
    shards.run([](core::Mailer& mailer, RenderedMail one, core::CallContext c, std::optional<Result<Delivered>>& out) -> core::awaitable<void> {
      out.emplace(co_await mailer.deliver(std::move(one), std::move(c)));
    }(under_test->mailer(), std::move(made), std::move(context), result));
    return *result;
  }
  std::future<Result<Delivered>> begin(RenderedMail made) {
    auto answer = std::make_shared<std::promise<Result<Delivered>>>();
    auto run = [](core::Mailer& mailer, RenderedMail one, std::shared_ptr<std::promise<Result<Delivered>>> to) -> core::awaitable<void> {
      to->set_value(co_await mailer.deliver(std::move(one), core::CallContext::with_timeout(20s)));
    };
    boost::asio::co_spawn(shards.executor(0), run(under_test->mailer(), std::move(made), answer), [](std::exception_ptr) {});
    return answer->get_future();
  }
  void restart() {
    under_test->close();
    ASSERT_TRUE(under_test->open());
  }

  std::filesystem::path folder;
  runtime::Shards shards{2};
  std::unique_ptr<MailerUnderTest> under_test;
};
INSTANTIATE_TEST_SUITE_P(AllMailers, MailerConformance, testing::ValuesIn(all_mailers()), [](auto& info) { return info.param.name; });

TEST_P(MailerConformance, AMailArrivesOnceHoweverOftenItComesAlsoAfterARestart) {
  ASSERT_EQ(deliver(mail("one", "first")).value(), Delivered::sent);
  EXPECT_EQ(deliver(mail("one", "first")).value(), Delivered::duplicate);
  restart();
  auto again = mail("one", "first");
  again.mime = "Subject: rendered otherwise\r\n\r\nby a changed template\r\n";
  EXPECT_EQ(deliver(again).value(), Delivered::duplicate);
  ASSERT_EQ(deliver(mail("two", "second")).value(), Delivered::sent);
  EXPECT_EQ(under_test->arrived(2), (Subjects{"first", "second"}));
}

TEST_P(MailerConformance, AnotherMailUnderTheIdIsAConflict) {
  ASSERT_TRUE(deliver(mail("one", "first")));
  EXPECT_EQ(deliver(mail("one", "other")).error().kind, ErrorKind::conflict);
  restart();
  EXPECT_EQ(deliver(mail("one", "other")).error().kind, ErrorKind::conflict);
  EXPECT_EQ(under_test->arrived(1), Subjects{"first"});
}

TEST_P(MailerConformance, OfManyAtOnceOneArrives) {
  std::vector<std::future<Result<Delivered>>> all;
  for (int i = 0; i < 4; ++i) all.push_back(begin(mail("one", "first")));
  int sent = 0;
  for (auto& one : all) {
    auto result = one.get();
    if (result) sent += result.value() == Delivered::sent;
    else EXPECT_EQ(result.error().kind, ErrorKind::unavailable) << "it is being sent: come back";
  }
  EXPECT_EQ(sent, 1);
  EXPECT_EQ(deliver(mail("one", "first")).value(), Delivered::duplicate);
  ASSERT_TRUE(deliver(mail("last", "last")));
  EXPECT_EQ(under_test->arrived(2), (Subjects{"first", "last"}));
}

TEST_P(MailerConformance, ADestinationThatIsAwayIsUnavailableAndHealsAndTheMailArrivesOnce) {
  ASSERT_TRUE(deliver(mail("before", "before")));
  under_test->arrived(1);
  under_test->take_away();
  auto large = mail("one", "first");
  large.html = std::string(200'000, 'x');
  for (int i = 0; i < 2; ++i) {
    auto refused = deliver(large);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
    EXPECT_EQ(refused.error().sent, core::Sent::no);
  }
  under_test->bring_back();
  EXPECT_EQ(deliver(large).value(), Delivered::sent);
  EXPECT_EQ(deliver(large).value(), Delivered::duplicate);
  EXPECT_EQ(under_test->arrived(2), (Subjects{"before", "first"}));
}

TEST_P(MailerConformance, WhatTheDestinationRefusesIsTheMailsFaultAndWhatItPutsOffIsNot) {
  if (!GetParam().judges) {
    EXPECT_TRUE(deliver(mail("one", "s", "refuse@example.com"))) << "a mailbox takes everything";
    return;
  }
  struct Case {
    const char *to, *words;
    ErrorKind kind;
    bool is_outage = false;  ///< else the server speaks of this mail
  };
  for (auto& c : {Case{"refuse@example.com", "550 5.1.1 no such user here", ErrorKind::invalid_argument}, Case{"spam@example.com", "554", ErrorKind::invalid_argument},
                  Case{"defer@example.com", "451 4.3.0 try again later", ErrorKind::unavailable}, Case{"deferdata@example.com", "451", ErrorKind::unavailable},
                  Case{"droprcpt@example.com", "connection", ErrorKind::unavailable, true}}) {
    auto refused = deliver(mail(c.to, "s", c.to));
    ASSERT_FALSE(refused) << c.to;
    EXPECT_EQ(refused.error().kind, c.kind) << c.to;
    EXPECT_EQ(core::is_untaken(refused.error()), c.is_outage) << c.to;
    EXPECT_NE(refused.error().message.find(c.words), std::string::npos) << refused.error().message;
  }
  EXPECT_FALSE(deliver(mail("once", "put off", "deferonce@example.com")));
  EXPECT_EQ(deliver(mail("once", "put off", "deferonce@example.com")).value(), Delivered::sent);
  EXPECT_TRUE(deliver(mail("refuse@example.com", "another in its place"))) << "the first was never sent";
  EXPECT_EQ(under_test->arrived(2), (Subjects{"put off", "another in its place"}));
}

TEST_P(MailerConformance, AnAnswerThatIsLostMayHaveSent) {
  if (!GetParam().judges) return;  // it has no connection to lose: AMailArrivesOnce… is its test
  auto lost = deliver(mail("one", "taken", "droptaken@example.com"));
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(lost.error().sent, core::Sent::maybe);
  EXPECT_FALSE(deliver(mail("one", "taken", "droptaken@example.com")));
  EXPECT_EQ(under_test->arrived(2), (Subjects{"taken", "taken"})) << "at least once";
}

TEST_P(MailerConformance, ACallPastItsDeadlineSendsNothing) {
  auto late = deliver(mail("one", "late"), core::CallContext::with_timeout(0ms));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::deadline_exceeded);
  ASSERT_TRUE(deliver(mail("two", "in time")));
  EXPECT_EQ(under_test->arrived(1), Subjects{"in time"});
}

TEST_P(MailerConformance, WhoLeavesHoldsNothingUpAndItsMailArrivesOnceOrNot) {
  shards.run([](core::Mailer& mailer, RenderedMail made) -> core::awaitable<void> {
    using namespace boost::asio::experimental::awaitable_operators;
    boost::asio::steady_timer leaves(co_await boost::asio::this_coro::executor, std::chrono::steady_clock::time_point::min());
    (void)co_await (mailer.deliver(std::move(made), core::CallContext::with_timeout(20s)) || leaves.async_wait(boost::asio::use_awaitable));
  }(under_test->mailer(), mail("one", "left")));
  restart();  // whatever ran has ended
  auto again = deliver(mail("one", "left"));
  ASSERT_TRUE(again) << again.error().message;
  ASSERT_TRUE(deliver(mail("two", "second")));
  EXPECT_EQ(under_test->arrived(2), (Subjects{"left", "second"}));
}

TEST_P(MailerConformance, AFullQueueIsOverloadedWithATimeToComeBack) {
  under_test->with_full_queue([&] {
    auto refused = deliver(mail("one", "one"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
    EXPECT_TRUE(refused.error().retry_after);
  });
  EXPECT_EQ(deliver(mail("one", "one")).value(), Delivered::sent);
}

}  // namespace
}  // namespace flexi::conformance
