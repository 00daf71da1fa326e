// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/idempotency_store.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "runtime/shards.hpp"

namespace flexi::stores::sqlite {
namespace {

using core::ErrorKind;
using core::Seen;

core::MessageId id(std::string_view text) { return core::MessageId::parse(text).value(); }
core::PayloadDigest digest(std::uint8_t first) {
  core::PayloadDigest d;
  d.bytes[0] = first;
  return d;
}

class IdempotencyStoreTest : public testing::Test {
 protected:
  IdempotencyStoreTest() {
    std::string name = testing::TempDir() + "flexi-idempotency-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    reopen();
  }
  ~IdempotencyStoreTest() override {
    store_.reset();
    database_.reset();
    std::filesystem::remove_all(folder_);
  }
  void reopen() {
    store_.reset();
    database_.reset();
    database_ = std::move(runtime::sqlite::Database::open({.path = folder_ + "/t.db"}, runtime::LogSink::none(), metrics_)).value();
    store_ = std::move(SqliteIdempotencyStore::open(*database_, {}, [this] { return now_; })).value();
  }
  core::Result<Seen> remember(std::string action, std::string_view key, std::uint8_t payload) {
    std::optional<core::Result<Seen>> answer;
    auto ask = [](SqliteIdempotencyStore& s, std::string a, core::MessageId i, core::PayloadDigest d,
                  std::optional<core::Result<Seen>>& out) -> core::awaitable<void> { out.emplace(co_await s.remember(a, i, d, {})); };
    shards_.run(ask(*store_, std::move(action), id(key), digest(payload), answer));
    return std::move(*answer);
  }
  std::int64_t rows() {
    std::int64_t count = -1;
    EXPECT_TRUE(database_->write_now([&count](runtime::sqlite::Connection& c) -> core::Result<void> {
      auto s = c.use("SELECT count(*) FROM idempotency_keys");
      FLEXI_TRY(auto row, s.step());
      (void)row;
      count = s.integer(0);
      return core::ok();
    }));
    return count;
  }

  std::string folder_;
  core::Timestamp now_ = std::chrono::system_clock::now();
  runtime::Metrics metrics_;
  runtime::Shards shards_{1};
  std::unique_ptr<runtime::sqlite::Database> database_;
  std::unique_ptr<SqliteIdempotencyStore> store_;
};

TEST_F(IdempotencyStoreTest, TheSamePayloadIsSeenAgainAndAnotherIsAConflict) {
  EXPECT_EQ(remember("log", "k", 1).value(), Seen::first);
  EXPECT_EQ(remember("log", "k", 1).value(), Seen::again);
  EXPECT_EQ(remember("log", "k", 2).error().kind, ErrorKind::conflict);
  EXPECT_EQ(remember("log", "k", 1).value(), Seen::again) << "the conflict must not take the key over";
}

TEST_F(IdempotencyStoreTest, KeysAreScopedByAction) {
  EXPECT_EQ(remember("log", "k", 1).value(), Seen::first);
  EXPECT_EQ(remember("mail", "k", 2).value(), Seen::first);
}

TEST_F(IdempotencyStoreTest, KeysSurviveARestart) {
  EXPECT_EQ(remember("log", "k", 1).value(), Seen::first);
  reopen();
  EXPECT_EQ(remember("log", "k", 2).error().kind, ErrorKind::conflict);
}

TEST_F(IdempotencyStoreTest, AKeyIsFreeAgainAfterItsTimeAlsoUnpurged) {
  EXPECT_EQ(remember("log", "k", 1).value(), Seen::first);
  now_ += std::chrono::hours(25);
  EXPECT_EQ(remember("log", "k", 2).value(), Seen::first);
  EXPECT_EQ(remember("log", "k", 1).error().kind, ErrorKind::conflict);
}

TEST_F(IdempotencyStoreTest, PurgeForgetsOldKeysABitAtATime) {
  EXPECT_TRUE(database_->write_now([this](runtime::sqlite::Connection& c) {
    const auto at = std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(now_.time_since_epoch()).count());
    return c.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700)"
                     " INSERT INTO idempotency_keys SELECT 'log', 'k' || i, x'00', " + at + " FROM n");
  }));
  now_ += std::chrono::hours(25);
  EXPECT_EQ(remember("log", "young", 1).value(), Seen::first);
  std::vector<bool> more;
  for (int i = 0; i < 2; ++i)
    EXPECT_TRUE(database_->write_now([&](runtime::sqlite::Connection& c) -> core::Result<void> {
      more.push_back(store_->purge_some(c));
      return core::ok();
    }));
  EXPECT_EQ(more, (std::vector<bool>{true, false}));
  EXPECT_EQ(rows(), 1);
}

}  // namespace
}  // namespace flexi::stores::sqlite
