// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "core/request.hpp"
#include "runtime/policies/circuit.hpp"
#include "runtime/policies/way_figures.hpp"

namespace flexi::services::broker {

/// What every action's ways do at the moment: whether they are well, how often and how fast they are gone.
/// Lifetime/threads: any thread; `metrics` outlives it, and it outlives the broker that tells it
class WayBoard {
 public:
  explicit WayBoard(runtime::Metrics& metrics, runtime::policies::Now now = runtime::policies::steady_now) : metrics_(metrics), now_(std::move(now)) {}

  /// One more way; its figures are told of each call.
  runtime::policies::WayFigures& add(const std::string& action, core::Via via, std::shared_ptr<const runtime::policies::Circuit> circuit, bool forbidden);
  /// Takes a sample; to be called once a second.
  void tick();
  /// [{"action","calls_per_second_10s","calls_per_second_60s","p50_ms","p99_ms","ways":[{"via","state",…}]}]
  std::string to_json() const;

 private:
  struct Way {
    Way(core::Via v, std::shared_ptr<const runtime::policies::Circuit> c, bool f, runtime::Metrics& metrics, const std::string& action)
        : via(v), circuit(std::move(c)), forbidden(f), figures(metrics, action, std::string(core::to_string(v))) {}
    core::Via via;
    std::shared_ptr<const runtime::policies::Circuit> circuit;
    bool forbidden;
    runtime::policies::WayFigures figures;
    runtime::policies::Minute minute{};
  };
  struct Action {
    Action(std::string n, runtime::Metrics::Histogram d) : name(std::move(n)), duration(d) {}
    std::string name;
    runtime::Metrics::Histogram duration;
    runtime::policies::Minute minute{};
    std::deque<Way> ways{};  ///< references stay
  };
  Action& action_of(const std::string& name);

  runtime::Metrics& metrics_;
  const runtime::policies::Now now_;
  mutable std::mutex mutex_;
  std::deque<Action> actions_;
};

}  // namespace flexi::services::broker
