// SPDX-License-Identifier: Apache-2.0
#include "runtime/readiness.hpp"

#include "runtime/json.hpp"

namespace flexi::runtime {

template <class Change>
void Readiness::change(Change make) {
  std::lock_guard lock(mutex_);
  const bool ready_before = ready_locked(), draining_before = draining_;
  make();
  if (ready_before == ready_locked() && draining_before == draining_) return;
  for (auto& changed : subscribers_) changed();
}

void Readiness::set_ready(const std::string& part) {
  change([&] { parts_[part].clear(); });
}

void Readiness::set_unready(const std::string& part, std::string why) {
  change([&] { parts_[part] = why.empty() ? "not ready" : std::move(why); });
}

void Readiness::drain() {
  change([&] { draining_ = true; });
}

Readiness::Subscription::Subscription(Readiness& readiness, std::function<void()> changed) : readiness_(readiness) {
  std::lock_guard lock(readiness.mutex_);
  place_ = readiness.subscribers_.insert(readiness.subscribers_.end(), std::move(changed));
}

Readiness::Subscription::~Subscription() {
  std::lock_guard lock(readiness_.mutex_);
  readiness_.subscribers_.erase(place_);
}

bool Readiness::draining() const {
  std::lock_guard lock(mutex_);
  return draining_;
}

bool Readiness::ready() const {
  std::lock_guard lock(mutex_);
  return ready_locked();
}

bool Readiness::ready_locked() const {
  if (draining_) return false;
  for (auto& [part, why] : parts_)
    if (!why.empty()) return false;
  return true;
}

std::string Readiness::why(const std::string& part) const {
  std::lock_guard lock(mutex_);
  const auto found = parts_.find(part);
  return found == parts_.end() ? "" : found->second;
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
