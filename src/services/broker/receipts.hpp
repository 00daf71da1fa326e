// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/dead_letters.hpp"
#include "core/receipt.hpp"

namespace flexi::services::broker {

/// Answers "receipts.get": where a message is. The broker remembers nothing: it asks everybody who may have the message,
/// and what the furthest of them says holds. First its destination (stored is stored, whatever a queue that has not heard
/// yet still thinks), then where it is on its way (queue, spool), then where it ended (dead-lettered, expired, discarded),
/// then who has merely seen it.
/// Lifetime/threads: any thread; the sources outlive it
class ReceiptService final : public core::Handler {
 public:
  struct Source {
    std::string name;  ///< for people: "logger", "queue"
    std::reference_wrapper<core::ReceiptSource> source;
    bool last_resort = false;  ///< costly: asked only where nobody before it has the message
  };
  explicit ReceiptService(std::vector<Source> sources) : sources_(std::move(sources)) {}

  /// Takes {"id", "action"?}. A caller's own idempotency key is found as the caller knows it: its scoped id first, then the
  /// id as it was given.
  /// @return `unknown` where nobody has heard of it; unavailable where nobody has, and somebody could not be asked
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  struct Search;
  core::awaitable<void> ask_all(core::MessageId id, const std::string& action, Search& search, core::CallContext context);
  std::vector<Source> sources_;
};

/// A queue's dead letters.
/// Lifetime/threads: any thread; `letters` outlives it
class DeadLetterReceipts final : public core::ReceiptSource {
 public:
  /// @param where what the receipt calls the queue
  DeadLetterReceipts(core::DeadLetters& letters, std::string where) : letters_(letters), where_(std::move(where)) {}
  core::awaitable<core::Result<std::optional<core::Receipt>>> find_receipt(core::MessageId id, core::CallContext context) override;

 private:
  core::DeadLetters& letters_;
  std::string where_;
};

/// A service that has messages of one action, asked by the action that gets one ("logs.get") over whatever leads to it.
/// Lifetime/threads: any thread; `service` outlives it
class ServiceReceipts final : public core::ReceiptSource {
 public:
  /// @param get    takes {"id", "brief"?}; answers not_found, or an object with created_at, updated_at?, duplicates?, trace_id?, hops?
  /// @param action of the messages that the service has
  /// @param where  what the receipt calls the service
  ServiceReceipts(core::Handler& service, std::string_view get, std::string_view action, std::string where)
      : service_(service), get_(get), action_(action), where_(std::move(where)) {}
  core::awaitable<core::Result<std::optional<core::Receipt>>> find_receipt(core::MessageId id, core::CallContext context) override;

 private:
  core::Handler& service_;
  std::string get_, action_, where_;
};

}  // namespace flexi::services::broker
