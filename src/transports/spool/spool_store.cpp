// SPDX-License-Identifier: Apache-2.0
#include "transports/spool/spool_store.hpp"

namespace flexi::transports::spool {

using core::Result;
using runtime::sqlite::Connection;
using runtime::sqlite::Database;

Store::Store(SpoolOptions options, runtime::LogSink& log, runtime::Metrics& metrics)
    : options_(std::move(options)), directory_(options_.directory), log_(log), metrics_(metrics),
      orphan_count_(metrics.gauge("flexi_spool_orphans", "Spools of processes that died which could not be adopted yet")) {}

Result<void> Store::open() {
  if (ready_) return core::ok();
  if (!file_) {
    FLEXI_TRY(file_, directory_.take());
  }
  FLEXI_TRY(auto database, Database::open({.path = file_->path(), .readers = 1}, log_, metrics_));
  FLEXI_TRY(database->migrate("spool", table::migrations()));
  HeldByAction held;
  Held dead;
  FLEXI_TRY(database->write_now([&](Connection& c) -> Result<void> {
    FLEXI_TRY(held, table::held(c));
    FLEXI_TRY(dead, table::dead(c));
    return core::ok();
  }));
  came(held);
  dead_ += dead.messages, bytes_ += dead.bytes;
  database_ = std::move(database);
  ready_ = database_.get();
  return core::ok();
}

bool Store::adopt() {
  bool any = false;
  std::map<std::string, std::string> left;
  for (auto& orphan : directory_.orphans()) {
    auto adopted = adopt(*orphan);
    if (adopted) {
      any = true;
      continue;
    }
    auto& error = adopted.error();
    auto& why = left[orphan->path()] = error.message + error.detail;
    if (const auto known = orphans_.find(orphan->path()); known == orphans_.end() || known->second != why)
      log_.error("a dead process's spool can't be adopted, its messages wait there",
                 {{"file", orphan->path()}, {"error", error.message}, {"detail", error.detail}});
  }
  orphans_ = std::move(left);
  orphan_count_.set(static_cast<double>(orphans_.size()));
  return any;
}

Result<void> Store::adopt(SpoolFile& file) {
  table::Adopted adopted;
  FLEXI_TRY(database_->write_now([&](Connection& c) -> Result<void> {
    FLEXI_TRY(adopted, table::adopt(c, file.path()));
    return core::ok();
  }));
  file.remove();  // only now: what it held is committed here
  came(adopted.messages);
  dead_ += adopted.dead.messages, bytes_ += adopted.dead.bytes;
  std::int64_t messages = 0;
  for (auto& [action, held] : adopted.messages) messages += held.messages;
  if (messages + adopted.dead.messages > 0)
    log_.warning("adopted the spool of a process that died", {{"file", file.path()}, {"messages", messages}, {"dead_letters", adopted.dead.messages}});
  return core::ok();
}

Lane& Store::lane(std::string_view action) {
  std::lock_guard lock(mutex_);
  auto it = lanes_.find(action);
  if (it == lanes_.end()) it = lanes_.emplace(std::string(action), std::make_unique<Lane>(std::string(action))).first;
  return *it->second;
}

std::vector<Lane*> Store::lanes() {
  std::lock_guard lock(mutex_);
  std::vector<Lane*> all;
  for (auto& [action, lane] : lanes_) all.push_back(lane.get());
  return all;
}

bool Store::waits(std::string_view action) {
  if (messages_.load(std::memory_order_acquire) == 0) return false;
  std::lock_guard lock(mutex_);
  auto it = lanes_.find(action);
  return it != lanes_.end() && it->second->held.load() > 0;
}

bool Store::reserve(Lane& lane, std::int64_t bytes) {
  const bool full = messages_.fetch_add(1) + dead_.load() >= options_.max_messages;
  lane.held.fetch_add(1);
  if (bytes_.fetch_add(bytes) + bytes <= options_.max_bytes && !full) return true;
  forget(lane, 1, bytes);
  return false;
}

void Store::forget(Lane& lane, std::int64_t messages, std::int64_t bytes) {
  lane.held.fetch_sub(messages);
  messages_.fetch_sub(messages);
  bytes_.fetch_sub(bytes);
}

void Store::came(const HeldByAction& messages) {
  for (auto& [action, held] : messages) {
    lane(action).held.fetch_add(held.messages);
    messages_.fetch_add(held.messages);
    bytes_.fetch_add(held.bytes);
  }
}

}  // namespace flexi::transports::spool
