// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/ledger.hpp"
#include "core/receipt.hpp"
#include "runtime/metrics.hpp"
#include "runtime/task_scope.hpp"

namespace flexi::services::broker {

/// Answers "ledger.get": what became of everything that was accepted, summed over all who count; and shows it as metrics.
/// Lifetime/threads: handle() on any thread; the sources and metrics outlive it; stop() before it is destroyed where it was started
class LedgerService final : public core::Handler {
 public:
  /// @param sources in the order in which a message passes them, publishers first and stores last. They are asked in that
  ///                order, so what moves on meanwhile is counted twice rather than not at all: a number above 0 that is
  ///                unaccounted for is never mere movement
  /// @param stores  by action: asked about ends that a source is in doubt about
  /// @param certain how long after its end a message that its store doesn't have is not going to be there any more
  LedgerService(std::vector<std::reference_wrapper<core::LedgerSource>> sources, runtime::Metrics& metrics,
                std::map<std::string, std::reference_wrapper<core::ReceiptSource>> stores = {}, std::chrono::milliseconds certain = std::chrono::minutes(1));

  /// A part of the ledger, for whoever adds up the whole: it need not add up, and shows no metrics.
  explicit LedgerService(std::vector<std::reference_wrapper<core::LedgerSource>> sources) : sources_(std::move(sources)) {}

  /// @return the ledger as far as it could be asked for; `not_asked` names who could not be
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

  /// Shows the metrics anew every `period`, or less often where asking takes long.
  void start(boost::asio::any_io_executor executor, runtime::LogSink& log, std::chrono::milliseconds period = std::chrono::seconds(10));
  core::awaitable<void> stop();

 private:
  struct Reading;
  core::awaitable<Reading> read_once(core::CallContext context);
  core::awaitable<Reading> read(core::CallContext context);
  core::awaitable<void> resolve_doubts(core::LedgerSource& source, core::CallContext context);
  core::awaitable<void> show_again(std::chrono::milliseconds period);
  void show(const Reading& reading);

  std::vector<std::reference_wrapper<core::LedgerSource>> sources_;
  runtime::Metrics* metrics_ = nullptr;  ///< null: a part
  std::map<std::string, std::reference_wrapper<core::ReceiptSource>> stores_;
  std::chrono::milliseconds certain_{};
  runtime::Metrics::Gauge unaccounted_, not_asked_;
  std::optional<runtime::TaskScope> scope_;
  std::optional<boost::asio::steady_timer> tick_;
  std::atomic<bool> stopping_{false};
};

}  // namespace flexi::services::broker
