// SPDX-License-Identifier: Apache-2.0
#include "services/broker/way_board.hpp"

#include <cmath>

#include "runtime/json.hpp"

namespace flexi::services::broker {

namespace policies = runtime::policies;
using runtime::JsonWriter;

namespace {

double rounded(double value) { return std::round(value * 1000) / 1000; }

void write_rates(JsonWriter& json, const policies::Minute& minute) {
  const auto minute_rates = minute.over(std::chrono::seconds(60));
  json.field("calls_per_second_10s", rounded(minute.over(std::chrono::seconds(10)).calls_per_second));
  json.field("calls_per_second_60s", rounded(minute_rates.calls_per_second));
  for (auto& [name, seconds] : {std::pair("p50_ms", minute_rates.p50), std::pair("p99_ms", minute_rates.p99)}) {
    if (seconds) json.field(name, rounded(*seconds * 1000));
    else json.key(name).raw("null");
  }
}

}  // namespace

WayBoard::Action& WayBoard::action_of(const std::string& name) {
  for (auto& action : actions_)
    if (action.name == name) return action;
  // The same figure as the broker's own, found by its name and labels.
  return actions_.emplace_back(name, metrics_.histogram("flexi_request_duration_seconds", "Time from a request's arrival to its answer", {{"action", name}}));
}

policies::WayFigures& WayBoard::add(const std::string& action, core::Via via, std::shared_ptr<const policies::Circuit> circuit, bool forbidden) {
  std::lock_guard lock(mutex_);
  return action_of(action).ways.emplace_back(via, std::move(circuit), forbidden, metrics_, action).figures;
}

void WayBoard::tick() {
  std::lock_guard lock(mutex_);
  const auto now = now_();
  for (auto& action : actions_) {
    action.minute.push(now, {action.duration.buckets(), 0});
    for (auto& way : action.ways) way.minute.push(now, way.figures.sample());
  }
}

std::string WayBoard::to_json() const {
  std::lock_guard lock(mutex_);
  JsonWriter json;
  json.begin_array();
  for (auto& action : actions_) {
    json.begin_object().field("action", action.name);
    write_rates(json, action.minute);
    json.key("ways").begin_array();
    for (auto& way : action.ways) {
      const auto refused = way.circuit->refused_for(now_);
      const char* state = refused.count() > 0 ? "set_aside" : way.circuit->open() ? "probing" : "healthy";
      json.begin_object().field("via", core::to_string(way.via)).field("state", state).field("forbidden", way.forbidden);
      if (refused.count() > 0) json.field("aside_ms", refused.count());
      const auto sample = way.figures.sample();
      json.field("calls", sample.durations.total()).field("errors", static_cast<std::uint64_t>(sample.errors));
      write_rates(json, way.minute);
      json.field("errors_per_second_60s", rounded(way.minute.over(std::chrono::seconds(60)).errors_per_second)).end_object();
    }
    json.end_array().end_object();
  }
  return json.end_array().take();
}

}  // namespace flexi::services::broker
