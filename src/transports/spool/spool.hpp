// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "core/dead_letters.hpp"
#include "core/ledger.hpp"
#include "core/receipt.hpp"
#include "core/transport.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"
#include "runtime/shards.hpp"
#include "transports/spool/spool_options.hpp"

namespace flexi::transports::spool {

struct SpoolStatus {
  bool usable = false;            ///< it has its file
  std::int64_t messages = 0;      ///< that wait for the queue
  std::int64_t bytes = 0;         ///< their payloads and the dead letters'
  std::int64_t dead_letters = 0;  ///< that the queue refused for good
  std::chrono::microseconds oldest_age{0};
};

/// Stands before a queue's publisher: while the queue is unavailable, what was to be `accepted` is committed to a file on a
/// persistent volume and goes to the queue in order, per action, before anything new does. While all is well it is not touched.
///
/// Lifetime/threads: any thread; the publisher and the shards outlive it; stop() before the publisher's and before it is destroyed
class Spool final : public core::Client, public core::ReceiptSource, public core::LedgerSource, public core::DeadLetters {
 public:
  struct Environment {
    runtime::Shards& shards;
    runtime::LogSink& log;
    runtime::Metrics& metrics;
    std::function<core::Timestamp()> now = [] { return std::chrono::system_clock::now(); };
  };
  /// Takes its file and adopts those of processes that died; blocks, for the start-up. A folder that can't be used is logged and
  /// tried again and again: meanwhile there is no spool.
  static std::unique_ptr<Spool> open(Environment environment, SpoolOptions options, core::Handler& publisher);
  ~Spool() override;

  /// The publisher's answer; or, where the queue is unavailable and the request is to be `accepted`, {way: "amqp;queue=spool"} once
  /// it is committed, also behind others of its action that wait already.
  /// @return conflict where the id waits with another payload; unavailable with retry_after where the spool is full, missing or
  ///         refused by the disk, and for `stored` while others wait. Log-ins and requests past their deadline are never spooled
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;
  /// The publisher without the spool, for `auto`, which tries the direct ways first: unavailable while messages of the action wait.
  core::Handler& straight();
  /// The spool without the publisher, for `auto` where the publisher has had its turn: what may be spooled is, at once.
  core::Handler& waiting();
  /// What waits stays. The publisher still works while this runs.
  core::awaitable<void> stop(core::StopOptions options) override;

  SpoolStatus status() const;
  core::awaitable<core::Result<std::optional<core::Receipt>>> find_receipt(core::MessageId id, core::CallContext context) override;
  std::string_view source_name() const override { return "spool"; }
  /// What is here now: it is counted by others once the queue has it.
  core::awaitable<core::Result<std::vector<core::Account>>> accounts(core::CallContext context) override;

  /// What the queue refused for good. unavailable while there is no spool.
  core::awaitable<core::Result<core::DeadLetterPage>> list(unsigned limit, std::string cursor, core::CallContext context) override;
  core::awaitable<core::Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<void>> replay(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<void>> discard(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep what, core::CallContext context) override;

 private:
  class Part;
  class Impl;
  explicit Spool(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
  std::unique_ptr<Part> straight_, waiting_;
};

}  // namespace flexi::transports::spool
