// SPDX-License-Identifier: Apache-2.0
#include "services/broker/way_board.hpp"

#include <gmock/gmock.h>

#include "runtime/json.hpp"
#include "services/broker/broker_fixture.hpp"

namespace flexi::services::broker {
namespace {

using testing::HasSubstr;

class WayBoardTest : public BrokerFixture {
 protected:
  WayBoardTest() {
    options.retry.attempts = 1;
    options.log.accepted_order = {"http", "inproc"};
    options.mail.forbidden = {"http"};
    board.tick();
  }
  std::unique_ptr<core::Handler> make_with_board() {
    auto with_board = parts();
    with_board.hooks.now = [this] { return now; };
    with_board.board = &board;
    return make_broker(with_board, options);
  }
  void pass(std::chrono::seconds time) {
    for (; time.count() > 0; time -= std::chrono::seconds(1)) {
      now += std::chrono::seconds(1);
      board.tick();
    }
  }
  /// The part of the board's text that is about one way.
  std::string way(std::string_view action, std::string_view via) const {
    const auto text = board.to_json();
    const auto start = text.find("\"via\":\"" + std::string(via), text.find("\"action\":\"" + std::string(action)));
    return text.substr(start, text.find('}', start) - start);
  }

  runtime::policies::TimePoint now{std::chrono::hours(1)};
  WayBoard board{metrics, [this] { return now; }};
};

TEST_F(WayBoardTest, EveryActionWithItsWays) {
  auto broker = make_with_board();
  const auto text = board.to_json();
  EXPECT_TRUE(runtime::is_json(text)) << text;
  for (auto* action : {"log", "auth", "mail", "invoice"}) EXPECT_THAT(text, HasSubstr("{\"action\":\"" + std::string(action) + "\""));
  EXPECT_THAT(way("mail", "http"), HasSubstr("\"forbidden\":true"));
  EXPECT_THAT(way("mail", "inproc"), HasSubstr("\"state\":\"healthy\",\"forbidden\":false,\"calls\":0,\"errors\":0"));
  EXPECT_THAT(way("mail", "inproc"), HasSubstr("\"p50_ms\":null,\"p99_ms\":null"));
}

TEST_F(WayBoardTest, RatesAndErrorsOfEachWay) {
  auto broker = make_with_board();
  pass(std::chrono::seconds(1));
  down(http);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(call(*broker, contract_request("log")));
  pass(std::chrono::seconds(10));
  // Five calls found out that http is down; the others were spared.
  EXPECT_THAT(way("log", "http"), HasSubstr("\"state\":\"probing\",\"forbidden\":false,\"calls\":5,\"errors\":5,\"calls_per_second_10s\":0.5"));
  EXPECT_THAT(way("log", "inproc"), HasSubstr("\"calls\":20,\"errors\":0,\"calls_per_second_10s\":2"));
  EXPECT_THAT(way("log", "inproc"), testing::Not(HasSubstr("\"p99_ms\":null")));
  EXPECT_THAT(board.to_json(), HasSubstr("{\"action\":\"log\",\"calls_per_second_10s\":2,"));
}

TEST_F(WayBoardTest, AWayThatIsSetAsideSaysForHowLong) {
  auto broker = make_with_board();
  down(http);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(call(*broker, contract_request("log")));
  EXPECT_THAT(way("log", "http"), HasSubstr("\"state\":\"set_aside\",\"forbidden\":false,\"aside_ms\":100"));
}

}  // namespace
}  // namespace flexi::services::broker
