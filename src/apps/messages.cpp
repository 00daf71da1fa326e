// SPDX-License-Identifier: Apache-2.0
#include "apps/messages.hpp"

namespace flexi::apps {

namespace actions = core::actions;
using services::broker::ReceiptService;

namespace {

/// RabbitMQ's part: what its publisher accepted is not counted yet, and a ledger without it must not look wrong.
class NotCounted final : public core::LedgerSource {
 public:
  std::string_view source_name() const override { return "rabbitmq"; }
  core::awaitable<core::Result<std::vector<core::Account>>> accounts(core::CallContext) override {
    co_return core::unavailable("what RabbitMQ took is not counted");
  }
};

}  // namespace

void Messages::open(Storage& storage, Process& process, Ways& ways, Queueing& queueing) {
  struct Owner {
    Service service;
    std::string_view action, get;
    const char* name;
  };
  constexpr Owner kOwners[] = {{Service::logger, actions::kLog, actions::kLogsGet, "logger"}, {Service::mail, actions::kMail, actions::kMailsGet, "mail"}};

  std::vector<ReceiptService::Source> receipts;
  // Publishers first, stores last (LedgerService says why). The book of a process that stores nothing holds what it published.
  std::vector<std::reference_wrapper<core::LedgerSource>> ledger;
  const bool stores = storage.logs || storage.mailbox;
  if (storage.book && !stores) ledger.emplace_back(*storage.book);
  if (storage.queue) ledger.emplace_back(*storage.queue);
  if (queueing.rabbitmq()) ledger.emplace_back(*(not_counted_ = std::make_unique<NotCounted>()));
  std::map<std::string, std::reference_wrapper<core::ReceiptSource>> stores_of;
  for (auto& owner : kOwners) {
    auto* handler = ways.any_to(owner.service);
    if (!handler) continue;
    stored_.push_back(std::make_unique<services::broker::ServiceReceipts>(*handler, owner.get, owner.action, owner.name));
    receipts.push_back({owner.name, *stored_.back()});
    stores_of.emplace(owner.action, *stored_.back());
    remote_.push_back(std::make_unique<services::broker::RemoteLedger>(*handler, owner.name));
    ledger.emplace_back(*remote_.back());
  }
  if (storage.book && stores) ledger.emplace_back(*storage.book);
  for (auto* source : queueing.receipts()) receipts.push_back({"queue", *source});
  receipts_.emplace(std::move(receipts));
  ledger_.emplace(std::move(ledger), process.metrics, std::move(stores_of));
}

core::awaitable<void> Messages::stop() {
  if (ledger_) co_await ledger_->stop();
}

}  // namespace flexi::apps
