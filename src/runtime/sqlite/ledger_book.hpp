// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/ledger.hpp"
#include "runtime/sqlite/database.hpp"

namespace flexi::runtime::sqlite {

/// How one message came: what tells a redelivery (the same) from another acceptance of its id (another).
struct Acceptance {
  core::Via via = core::Via::automatic;
  std::int64_t accepted_at = 0;  ///< µs since 1970
  bool same_as(const Acceptance& other) const { return via == other.via && accepted_at == other.accepted_at; }
};

/// Who counts that a message was accepted: its publisher, where that answers before the destination has stored; else the
/// store, in the transaction in which it stores.
enum class AcceptedBy { store, publisher };

/// The ledger's numbers in a database, beside what they count: those of one batch of writes are added in its
/// transaction, so that neither a crash nor a full disk can part them.
/// Lifetime/threads: the database outlives it, those who count don't
class LedgerBook final : public core::LedgerSource, private BatchEnd {
 public:
  /// Brings the tables up to date. Blocks; for the start-up.
  static core::Result<std::unique_ptr<LedgerBook>> open(Database& database);
  ~LedgerBook() override;
  /// Unlike any other book's.
  const std::string& id() const { return id_; }

  // For write jobs, as the last thing they do: what a job undoes later would stay counted.

  /// The message is stored for the first time.
  void stored(std::string_view action, core::Via via, AcceptedBy by);
  /// It was stored already, as `first` says, and comes again as `again`.
  core::Result<void> repeated(Connection& connection, std::string_view action, std::string_view id, const Acceptance& first, const Acceptance& again, AcceptedBy by);
  /// How often it was repeated.
  static core::Result<unsigned> repeats(Connection& connection, std::string_view action, std::string_view id);
  void count(const core::LedgerLine& change);

  /// count() for those who write nothing else here: what RabbitMQ's publisher accepted, what its listener saw expire.
  /// @return when durable; one commit for all that come while the one before runs
  core::awaitable<core::Result<void>> add(std::vector<core::LedgerLine> changes, core::CallContext context);

  std::string_view source_name() const override { return "store"; }
  core::awaitable<core::Result<std::vector<core::Account>>> accounts(core::CallContext context) override;
  /// For Database::set_idle_work: forgets repetitions of long ago. @return whether more may be left
  bool purge_some(Connection& connection, core::Timestamp now);

 private:
  LedgerBook(Database& database, std::string id);
  core::Result<void> finish(Connection& connection) override;
  void undone() override { changes_.clear(); }
  core::LedgerLine& line(std::string_view action, std::string_view way);

  Database& database_;
  const std::string id_;
  std::vector<core::LedgerLine> changes_;  ///< of the batch; the writer's
};

}  // namespace flexi::runtime::sqlite
