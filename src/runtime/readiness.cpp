// SPDX-License-Identifier: Apache-2.0
#include "runtime/readiness.hpp"

#include "runtime/json.hpp"

namespace flexi::runtime {

void Readiness::set_ready(const std::string& part) {
  std::lock_guard lock(mutex_);
  parts_[part].clear();
}

void Readiness::set_unready(const std::string& part, std::string why) {
  std::lock_guard lock(mutex_);
  parts_[part] = why.empty() ? "not ready" : std::move(why);
}

void Readiness::drain() {
  std::lock_guard lock(mutex_);
  draining_ = true;
}

bool Readiness::draining() const {
  std::lock_guard lock(mutex_);
  return draining_;
}

bool Readiness::ready() const {
  std::lock_guard lock(mutex_);
  if (draining_) return false;
  for (auto& [part, why] : parts_)
    if (!why.empty()) return false;
  return true;
}

std::string Readiness::to_json() const {
  const bool is_ready = ready();
  std::lock_guard lock(mutex_);
  JsonWriter json;
  json.begin_object().field("ready", is_ready).field("draining", draining_).key("parts").begin_object();
  for (auto& [part, why] : parts_) json.field(part, why.empty() ? "ok" : why);
  return json.end_object().end_object().take();
}

}  // namespace flexi::runtime
