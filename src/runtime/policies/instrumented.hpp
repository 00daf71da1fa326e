// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/metrics.hpp"
#include "runtime/policies/clock.hpp"

namespace flexi::runtime::policies {

/// Counts what goes through: flexi_requests_total{action,way,outcome} and flexi_request_duration_seconds{action}.
/// `way` is the transport that a reply names (a label of a fixed list), `outcome` is "ok", "duplicate" or the error's
/// kind. Each figure is looked up once, when it first moves; after that there is no lock.
/// Lifetime/threads: any thread; `inner` and `metrics` outlive it
class Instrumented final : public core::Handler {
 public:
  /// @param actions what may stand in the label; all others are "other", so strangers can't grow the metrics
  Instrumented(core::Handler& inner, Metrics& metrics, std::vector<std::string> actions, Now now = steady_now);
  ~Instrumented() override;
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override { return pass(inner_, std::move(request), std::move(context)); }
  /// The same figures of another handler.
  core::awaitable<core::Result<core::Reply>> pass(core::Handler& inner, core::Request request, core::CallContext context);

 private:
  class Row;
  Row& row_of(std::string_view action);
  core::Handler& inner_;
  Metrics& metrics_;
  Now now_;
  std::vector<std::unique_ptr<Row>> rows_;  ///< the last is "other"
};

}  // namespace flexi::runtime::policies
