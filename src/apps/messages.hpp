// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "apps/queueing.hpp"
#include "apps/ways.hpp"
#include "services/broker/ledger_service.hpp"
#include "services/broker/receipts.hpp"
#include "services/broker/remote_sources.hpp"

namespace flexi::apps {

/// "What happened to my message": one message's receipt, and the ledger of all, asked of every part that has some, in
/// this process or another.
/// Lifetime/threads: made before the broker, outlives it; stop() before it is destroyed
class Messages {
 public:
  void open(Storage& storage, Process& process, Ways& ways, Queueing& queueing);
  core::Handler& receipts() { return *receipts_; }
  core::Handler& ledger() { return *ledger_; }
  void start(Process& process);
  core::awaitable<void> stop();

 private:
  std::vector<std::unique_ptr<services::broker::ServiceReceipts>> stored_;
  std::vector<std::unique_ptr<services::broker::RemoteLedger>> remote_;
  services::broker::PublishedMessages* published_ = nullptr;  ///< null: there is no RabbitMQ
  std::map<std::string, services::broker::PublishedMessages::Ask> asks_;
  std::optional<services::broker::DeadLetterReceipts> dead_letters_;
  std::optional<services::broker::ReceiptService> receipts_;
  std::optional<services::broker::LedgerService> ledger_;
};

}  // namespace flexi::apps
