// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "runtime/log_sink.hpp"
#include "stores/mongo/health.hpp"
#include "stores/mongo/ledger.hpp"
#include "stores/mongo/log_query.hpp"
#include "stores/mongo/server.hpp"

namespace flexi::stores::mongo {

/// What a collection needs beside reads and writes. One thread looks whether the server is there and keeps the ledger's slot; another makes
/// indexes, removes what retention does not keep, and counts what other processes, or broken connections, left uncounted.
/// Lifetime/threads: any thread; the destructor joins
class Upkeep {
 public:
  struct Parts {
    const MongoOptions& options;
    Server& server;
    Ledger& ledger;
    Health& health;
    runtime::LogSink& log;
  };
  explicit Upkeep(Parts parts);
  ~Upkeep();

  /// Looks at once, where it is not doing so.
  void look();
  TextIndex text_index() const { return has_text_index_ ? TextIndex::present : TextIndex::absent; }
  /// A search by it failed: it is looked for again.
  void text_index_is_gone() { has_text_index_ = indexed_ = false; }

 private:
  void watch();
  void keep_house();
  bool pause(std::chrono::milliseconds time, bool* wake);
  core::Result<void> check(std::optional<Session>& session);
  core::Result<void> make_indexes(Session& session);
  core::Result<void> make_index(Session& session, const std::string& collection, const Bson& keys, bool sparse);
  core::Result<void> make_text_index(Session& session);
  core::Result<bool> find_text_index(Session& session);
  core::Result<void> clean(Session& session);
  core::Result<void> remove_before(Session& session, const std::string& collection, const char* field, core::Timestamp time);

  Parts parts_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false, asked_ = false;
  std::atomic<bool> indexed_{false};
  std::atomic<bool> has_text_index_{false};
  std::atomic<LedgerAccount::Clock::rep> up_since_{0};
  std::thread watcher_, housekeeper_;
};

}  // namespace flexi::stores::mongo
