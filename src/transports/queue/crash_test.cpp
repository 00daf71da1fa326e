// SPDX-License-Identifier: Apache-2.0
// kill -9, again and again: what was accepted is delivered, and stored once by an idempotent handler.
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <fstream>
#include <set>

#include "transports/queue/queue_test_support.hpp"

extern char** environ;

namespace flexi::transports::queue::testing {
namespace {

class CrashTest : public ::testing::Test {
 protected:
  CrashTest() {
    std::string name = ::testing::TempDir() + "flexi-crash-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~CrashTest() override { std::filesystem::remove_all(folder_); }

  pid_t start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {FLEXI_CRASH_CHILD, folder_});
    std::vector<char*> argv;
    for (auto& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    pid_t pid = 0;
    EXPECT_EQ(::posix_spawn(&pid, FLEXI_CRASH_CHILD, nullptr, nullptr, argv.data(), environ), 0);
    return pid;
  }
  int wait(pid_t pid) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return status;
  }
  std::vector<std::string> accepted() const {
    std::ifstream file(folder_ + "/accepted");
    std::vector<std::string> ids;
    for (std::string line; std::getline(file, line);)
      if (!file.eof()) ids.push_back(line);
    return ids;
  }
  /// Reads while nobody runs.
  template <class Row>
  void each(const char* sql, Row row) {
    auto connection = std::move(runtime::sqlite::Connection::open(folder_ + "/crash.db", runtime::sqlite::Connection::Mode::read_write)).value();
    auto rows = connection->use(sql);
    for (;;) {
      auto found = rows.step();
      ASSERT_TRUE(found) << found.error().detail;
      if (!found.value()) return;
      row(rows);
    }
  }
  std::string folder_;
};

TEST_F(CrashTest, WhatWasAcceptedIsStoredOnceThoughTheProcessIsKilledAgainAndAgain) {
  constexpr int kKills = 8;
  for (int i = 0; i < kKills; ++i) {
    const auto before = accepted().size();
    const auto pid = start({"load", std::to_string(i * 10'000'000)});
    // At work, and in the middle of it: the next few hundred answers have been given.
    while (accepted().size() < before + 300 * static_cast<unsigned>(i + 1)) {
      int status;
      ASSERT_EQ(::waitpid(pid, &status, WNOHANG), 0) << "the child ended by itself";
    }
    ::kill(pid, SIGKILL);
    wait(pid);
  }
  EXPECT_EQ(wait(start({"drain"})), 0);
  std::map<std::string, std::int64_t> stored;
  each("SELECT id, times FROM stored", [&](auto& row) { stored[row.text(0)] = row.integer(1); });
  const auto ids = accepted();
  ASSERT_GE(ids.size(), 300u * kKills);
  for (auto& id : ids) ASSERT_TRUE(stored.contains(id)) << id << " was accepted and is lost";
  each("SELECT accepted, stored, dead_lettered, discarded, expired, in_flight FROM queue_ledger", [&](auto& row) {
    EXPECT_EQ(row.integer(0), row.integer(1)) << "all that was committed was stored";
    EXPECT_EQ(row.integer(1), static_cast<std::int64_t>(stored.size())) << "each once in the account, however often delivered";
    for (int column = 2; column < 6; ++column) EXPECT_EQ(row.integer(column), 0) << column;
  });
}

TEST_F(CrashTest, AMessageThatKillsTheProcessIsDeadLetteredAndTheOthersAreNot) {
  {
    runtime::Metrics metrics;
    runtime::Shards shards(1);
    auto database = std::move(runtime::sqlite::Database::open({.path = folder_ + "/crash.db"}, runtime::LogSink::none(), metrics)).value();
    auto queue = std::move(EmbeddedQueue::open({*database, shards, runtime::LogSink::none(), metrics}, {})).value();
    auto fill = [](EmbeddedQueue* q) -> asio::awaitable<void> {
      for (int i = 0; i < 200; ++i) {
        auto done = co_await q->publish(log_request(i == 100 ? "poison" : "m" + std::to_string(i)), {});
        EXPECT_TRUE(done);
      }
    };
    shards.run(fill(queue.get()));
    shards.run(queue->stop());
  }
  int deaths = 0;
  while (WEXITSTATUS(wait(start({"poison"}))) == 9) ASSERT_LT(++deaths, 20) << "it kills the process for ever";
  EXPECT_EQ(deaths, 4) << "the delivery limit";
  std::int64_t stored = 0, dead = 0;
  each("SELECT count(*) FROM stored", [&](auto& row) { stored = row.integer(0); });
  each("SELECT id, reason FROM queue_dead", [&](auto& row) {
    ++dead;
    EXPECT_EQ(row.text(0), "poison");
    EXPECT_EQ(row.text(1), "internal: the process died 4 times while it handled this message");
  });
  EXPECT_EQ(stored, 199);
  EXPECT_EQ(dead, 1);
}

}  // namespace
}  // namespace flexi::transports::queue::testing
