// SPDX-License-Identifier: Apache-2.0
#include "apps/messages.hpp"

namespace flexi::apps {

namespace actions = core::actions;
using services::broker::ReceiptService;

void Messages::open(Storage& storage, Process& process, Ways& ways, Queueing& queueing) {
  struct Owner {
    Service service;
    std::string_view action, get, known;
    const char* name;
  };
  constexpr Owner kOwners[] = {{Service::logger, actions::kLog, actions::kLogsGet, actions::kLogsKnown, "logger"},
                               {Service::mail, actions::kMail, actions::kMailsGet, actions::kMailsKnown, "mail"}};

  std::vector<ReceiptService::Source> receipts;
  // Publishers first, stores last (LedgerService says why). The book of a process that stores nothing holds what it published.
  std::vector<std::reference_wrapper<core::LedgerSource>> ledger;
  const auto books = storage.books();
  const bool stores = storage.logs || storage.mailbox || storage.sent_mails;
  if (!stores) ledger.insert(ledger.end(), books.begin(), books.end());
  if (storage.queue) ledger.emplace_back(*storage.queue);
  if (queueing.spool()) ledger.emplace_back(*queueing.spool());
  published_ = queueing.published();
  if (published_) ledger.emplace_back(*published_);
  std::map<std::string, std::reference_wrapper<core::ReceiptSource>> stores_of;
  for (auto& owner : kOwners) {
    auto* handler = ways.any_to(owner.service);
    if (!handler) continue;
    stored_.push_back(std::make_unique<services::broker::ServiceReceipts>(*handler, owner.get, owner.action, owner.name));
    receipts.push_back({owner.name, *stored_.back()});
    stores_of.emplace(owner.action, *stored_.back());
    remote_.push_back(std::make_unique<services::broker::RemoteLedger>(*handler, owner.name));
    ledger.emplace_back(*remote_.back());
    asks_.emplace(owner.action, [handler, known = owner.known](std::vector<core::MessageId> ids, core::CallContext context) {
      return services::broker::ask_known(*handler, known, std::move(ids), std::move(context));
    });
  }
  if (stores) ledger.insert(ledger.end(), books.begin(), books.end());
  for (auto* source : queueing.receipts()) receipts.push_back({"queue", *source});
  if (published_) {
    receipts.push_back({"rabbitmq", *published_});
    receipts.push_back({.name = "rabbitmq", .source = dead_letters_.emplace(*queueing.rabbitmq(), "rabbitmq"), .last_resort = true});
  }
  receipts_.emplace(std::move(receipts));
  ledger_.emplace(std::move(ledger), process.metrics, std::move(stores_of));
}

void Messages::start(Process& process) {
  if (published_) published_->start(asks_);
  ledger_->start(process.shards.executor(0), process.log);
}

core::awaitable<void> Messages::stop() {
  if (ledger_) co_await ledger_->stop();
}

}  // namespace flexi::apps
