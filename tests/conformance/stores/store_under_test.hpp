// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/idempotency_store.hpp"
#include "core/ledger.hpp"
#include "core/log_store.hpp"
#include "core/mailer.hpp"
#include "core/sent_mails.hpp"
#include "core/user_store.hpp"
#include "runtime/shards.hpp"

namespace flexi::conformance {

/// One kind of store, with what the suite must be able to do to it.
class StoreUnderTest {
 public:
  virtual ~StoreUnderTest() = default;
  /// Connects, with tables up to date. Called again after close(): the data is still there.
  virtual core::Result<void> open() = 0;
  virtual void close() = 0;
  // Each asked of kinds that say so in StoreKind.
  virtual core::UserStore& users() { std::abort(); }
  virtual core::LogStore& logs() { std::abort(); }
  virtual core::IdempotencyStore& keys() { std::abort(); }
  /// Two faces of one, likewise: what is delivered is kept.
  virtual core::Mailer& mailer() { std::abort(); }
  virtual core::Mailbox& mailbox() { std::abort(); }
  /// Likewise: what SMTP took, and where it is counted.
  virtual core::SentMails& sent_mails() { std::abort(); }
  virtual core::LedgerSource& ledger() { std::abort(); }
  /// From now on, until `allow_writes`, the disk has no room for what is not there yet.
  virtual void refuse_writes() = 0;
  virtual void allow_writes() = 0;
  /// The longest text of a field that has a limit here, if it has one.
  virtual std::size_t longest_text() const { return 200'000; }
  /// The server, or its file, is spoilt: the next open() must say so.
  virtual void spoil() = 0;
  /// Runs `while_full` while as many writes wait as may.
  virtual void with_full_queue(const std::function<void()>& while_full) = 0;
  /// Runs `while_busy` while a write lasts, so that those that come wait behind it.
  virtual void with_busy_writer(const std::function<void()>& while_busy) = 0;
};

struct StoreKind {
  std::string name;
  std::function<std::unique_ptr<StoreUnderTest>(std::filesystem::path folder)> make;
  bool keeps_users = false, keeps_logs = false, keeps_keys = false, keeps_mails = false, keeps_sent_mails = false;
  /// Runs before the tests of this kind; why none of them can, else: they are then "not run", and say so.
  std::function<std::optional<std::string>()> missing = [] { return std::nullopt; };
  friend void PrintTo(const StoreKind& kind, std::ostream* out) { *out << kind.name; }
};
/// Every store there is: the suite runs over all of them.
std::vector<StoreKind> all_stores();
inline std::vector<StoreKind> all_stores_that(bool StoreKind::*keep) {
  auto kinds = all_stores();
  std::erase_if(kinds, [keep](auto& kind) { return !(kind.*keep); });
  return kinds;
}

/// A store of the given kind in a folder of its own, opened.
class StoreTest : public testing::TestWithParam<StoreKind> {
 protected:
  void SetUp() override {
    if (auto why = GetParam().missing()) GTEST_SKIP() << *why;
    std::string name = (std::filesystem::temp_directory_path() / "flexi-conformance-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder = name;
    store = GetParam().make(folder);
    if (opens_itself()) ASSERT_TRUE(store->open());
  }
  void TearDown() override {
    if (store) store->close();
    store.reset();
    shards.reset();
    if (!folder.empty()) std::filesystem::remove_all(folder);
  }
  virtual bool opens_itself() const { return true; }

  runtime::Shards& threads() {
    if (!shards) shards = std::make_unique<runtime::Shards>(2);
    return *shards;
  }
  template <class T>
  T wait(core::awaitable<T> work) {
    std::optional<T> result;
    threads().run([](core::awaitable<T> inner, std::optional<T>& out) -> core::awaitable<void> {
      out.emplace(co_await std::move(inner));
    }(std::move(work), result));
    return std::move(*result);
  }
  /// Starts all before it waits for any.
  template <class T>
  std::vector<T> wait_all(std::vector<core::awaitable<T>> works) {
    std::vector<std::optional<T>> results(works.size());
    threads().run([](std::vector<core::awaitable<T>> all, std::vector<std::optional<T>>& out) -> core::awaitable<void> {
      auto executor = co_await boost::asio::this_coro::executor;
      std::size_t left = all.size();
      boost::asio::steady_timer done(executor, boost::asio::steady_timer::time_point::max());
      auto one = [](core::awaitable<T> work, std::optional<T>& slot, std::size_t& running, boost::asio::steady_timer& end) -> core::awaitable<void> {
        slot.emplace(co_await std::move(work));
        if (--running == 0) end.cancel();
      };
      for (std::size_t i = 0; i < all.size(); ++i) boost::asio::co_spawn(executor, one(std::move(all[i]), out[i], left, done), [](std::exception_ptr) {});
      boost::system::error_code ignored;
      if (left > 0) co_await done.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    }(std::move(works), results));
    std::vector<T> values;
    for (auto& result : results) values.push_back(std::move(*result));
    return values;
  }

  /// Starts `work` while the writer is busy, and leaves: ends only where the operation honours cancellation.
  template <class T>
  void start_and_leave(core::awaitable<T> work) {
    store->with_busy_writer([&] {
      threads().run([](core::awaitable<T> inner) -> core::awaitable<void> {
        using namespace boost::asio::experimental::awaitable_operators;
        boost::asio::steady_timer leaves(co_await boost::asio::this_coro::executor, std::chrono::milliseconds(1));
        auto first = co_await (std::move(inner) || leaves.async_wait(boost::asio::use_awaitable));
        EXPECT_EQ(first.index(), 1u) << "answered before it was written";
      }(std::move(work)));
    });
  }
  /// Each of `failures` is `unavailable`: the disk is full.
  template <class T>
  static void expect_unavailable(const std::vector<core::Result<T>>& failures) {
    for (auto& refused : failures) {
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().kind, core::ErrorKind::unavailable);
    }
  }
  template <class T>
  static void expect_overloaded(const core::Result<T>& refused) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, core::ErrorKind::overloaded);
    EXPECT_TRUE(refused.error().retry_after);
  }

  std::filesystem::path folder;
  std::unique_ptr<runtime::Shards> shards;  ///< before the store, whose threads post to it until they are joined
  std::unique_ptr<StoreUnderTest> store;
};

inline std::string kind_name(const testing::TestParamInfo<StoreKind>& info) { return info.param.name; }

}  // namespace flexi::conformance
