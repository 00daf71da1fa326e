// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/queue_test_support.hpp"

namespace flexi::transports::queue::testing {
namespace {

class ReceiptTest : public QueueTest {
 protected:
  std::optional<core::Receipt> find(const std::string& id) { return run(queue_->find_receipt(core::MessageId::parse(id).value(), {})).value(); }
};

TEST_F(ReceiptTest, AMessageIsFoundInEachOfItsStates) {
  open();
  EXPECT_FALSE(find("m1"));
  const auto before = std::chrono::system_clock::now() - std::chrono::seconds(1);
  ASSERT_TRUE(publish(log_request("m1")));
  auto queued = find("m1");
  ASSERT_TRUE(queued);
  EXPECT_EQ(queued->id.str(), "m1");
  EXPECT_EQ(queued->action, "log");
  EXPECT_EQ(queued->state, core::Receipt::State::queued);
  EXPECT_EQ(queued->where, "queue");
  EXPECT_EQ(queued->attempts, 0u);
  EXPECT_GT(queued->accepted_at, before);

  ScriptedHandler handler([](const Request&, unsigned attempt) -> Result<Reply> {
    if (attempt < 3) return core::unavailable("not now");
    return Reply{.message = "done"};
  });
  handler.hold(true);
  serve(handler);
  ASSERT_TRUE(handler.wait_for_calls(1));
  EXPECT_EQ(find("m1")->where, "listener");
  stop_server(std::chrono::milliseconds(0));
  EXPECT_EQ(find("m1")->where, "queue") << "given back by the stop";
  handler.hold(false);
  serve(handler);
  ASSERT_TRUE(eventually([&] { return find("m1")->state == core::Receipt::State::stored; }));
  EXPECT_GT(find("m1")->at, before);
}

TEST_F(ReceiptTest, AWaitingRetrySaysWhenAndADeadLetterSaysWhy) {
  options_.retry_delay = options_.max_retry_delay = std::chrono::hours(1);
  options_.retry_jitter = 0;
  options_.max_attempts = 2;
  open();
  ScriptedHandler handler([](const Request& request, unsigned) -> Result<Reply> {
    if (request.id.str() == "bad") return core::invalid_argument("name is missing");
    return core::unavailable("not now");
  });
  serve(handler);
  ASSERT_TRUE(publish(log_request("later")));
  ASSERT_TRUE(publish(log_request("bad")));
  ASSERT_TRUE(eventually([&] { return find("later")->attempts == 1; }));
  EXPECT_EQ(find("later")->state, core::Receipt::State::queued);
  EXPECT_GT(find("later")->at, std::chrono::system_clock::now() + std::chrono::minutes(50));
  ASSERT_TRUE(eventually([&] { return find("bad")->state == core::Receipt::State::dead_lettered; }));
  EXPECT_EQ(find("bad")->reason, "invalid_argument: name is missing");
  EXPECT_EQ(find("bad")->attempts, 1u);
  ASSERT_TRUE(run(queue_->discard(core::MessageId::parse("bad").value(), {})));
  EXPECT_FALSE(find("bad")) << "its id is free again";
}

}  // namespace
}  // namespace flexi::transports::queue::testing
