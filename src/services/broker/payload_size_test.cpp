// SPDX-License-Identifier: Apache-2.0
#include "services/broker/payload_size.hpp"

#include "services/broker/broker_fixture.hpp"

namespace flexi::services::broker {
namespace {

using namespace std::string_literals;

constexpr std::size_t kLimit = 1 << 20;
const std::size_t kLogNames = R"({"name":"","data":""})"s.size();

TEST(PayloadSize, IsCountedAsTheJsonThatIsSent) {
  const auto fits = [](core::Payload payload) { return check_size(payload, kLimit).has_value(); };
  EXPECT_TRUE(fits(core::LogEntry{"n", std::string(kLimit - kLogNames - 1, 'x')}));
  EXPECT_FALSE(fits(core::LogEntry{"n", std::string(kLimit - kLogNames, 'x')}));
  EXPECT_TRUE(fits(core::LogEntry{"n", std::string((kLimit - kLogNames - 1) / 2, '\n')}));
  EXPECT_FALSE(fits(core::LogEntry{"n", std::string(kLimit / 2, '"')}));
  EXPECT_TRUE(fits(core::LogEntry{"n", std::string((kLimit - kLogNames - 1) / 6, '\x01')}));
  EXPECT_FALSE(fits(core::LogEntry{"n", std::string(kLimit / 6, '\x1f')}));
  EXPECT_FALSE(fits(core::LogEntry{"n", std::string(std::size_t(4) << 20, 'x')}));
  EXPECT_TRUE(fits(core::Json{std::string(kLimit, ' ')}));
  EXPECT_FALSE(fits(core::Json{std::string(kLimit + 1, ' ')}));
  EXPECT_FALSE(fits(core::Mail{"", "to@b.c", "s", std::string(kLimit - 10, 'x')}));
  EXPECT_FALSE(fits(core::Credentials{"a@b.c", std::string(kLimit, 'x')}));
}

TEST(PayloadSize, AMailIsCountedWithAllThatGoesWithIt) {
  // {"from":"","to":"","subject":"","message":"","cc":"c","data":{"a":1},"attachments":[{"name":"n","content_type":"t","content":"…"},{"name":"m","content":""}]}
  core::Mail mail{"", "", "", "", "c", "", "", "", R"({"a":1})", {{"n", "t", {}}, {"m", "", ""}}};
  const auto rest = R"({"from":"","to":"","subject":"","message":"","cc":"c","data":{"a":1},"attachments":[{"name":"n","content_type":"t","content":""},{"name":"m","content":""}]})"s.size();
  constexpr std::size_t kSmall = 40'000;
  mail.attachments[0].content = std::string((kSmall - rest) / 4 * 3, '\xff');
  EXPECT_TRUE(check_size(mail, kSmall));
  EXPECT_TRUE(check_size(mail, rest + (kSmall - rest) / 4 * 4 + 1));
  EXPECT_FALSE(check_size(mail, rest + (kSmall - rest) / 4 * 4 - 1));
  core::Mail many{"", "", "", ""};
  many.attachments.assign(1000, {});
  EXPECT_FALSE(check_size(many, 20'000)) << "what holds no bytes is sent, too";
}

TEST(PayloadSize, ALimitBelowTheNamesIsNoUnderflow) {
  EXPECT_FALSE(check_size(core::LogEntry{"n", "d"}, 1));
  EXPECT_TRUE(check_size(core::Json{"1"}, 1));
}

class BrokerSize : public BrokerFixture {};

TEST_F(BrokerSize, APayloadThatSomeWayCannotCarryReachesNobody) {
  auto broker = make();
  for (auto via : {Via::automatic, Via::amqp, Via::http, Via::inproc})
    for (auto ack : {Ack::accepted, Ack::stored}) {
      auto request = contract_request("log", via, ack);
      request.payload = core::LogEntry{"n", std::string(2 << 20, 'x')};
      auto reply = call(*broker, request);
      ASSERT_FALSE(reply);
      EXPECT_EQ(reply.error().kind, ErrorKind::invalid_argument);
      EXPECT_EQ(reply.error().message, "the payload must be at most 1048576 bytes as JSON");
    }
  EXPECT_EQ(calls(), 0u);
  EXPECT_TRUE(keys.digests.empty());
}

}  // namespace
}  // namespace flexi::services::broker
