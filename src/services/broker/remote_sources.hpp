// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/known_ids.hpp"
#include "core/ledger.hpp"

namespace flexi::services::broker {

/// The ledger of another process: what its LedgerService answers.
/// Lifetime/threads: any thread; `service` outlives it
class RemoteLedger final : public core::LedgerSource {
 public:
  RemoteLedger(core::Handler& service, std::string name) : service_(service), name_(std::move(name)) {}
  std::string_view source_name() const override { return name_; }
  core::awaitable<core::Result<std::vector<core::Account>>> accounts(core::CallContext context) override;

 private:
  core::Handler& service_;
  std::string name_;
};

/// Which of these ids a service has, asked by `action` ("logs.known") over whatever leads to it.
core::awaitable<core::Result<core::KnownIds>> ask_known(core::Handler& service, std::string_view action, std::vector<core::MessageId> ids,
                                                        core::CallContext context);

}  // namespace flexi::services::broker
