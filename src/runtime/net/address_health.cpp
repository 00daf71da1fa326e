// SPDX-License-Identifier: Apache-2.0
#include "runtime/net/address_health.hpp"

#include <algorithm>

#include "runtime/net/address.hpp"

namespace flexi::runtime::net {

namespace {

std::int64_t ns(AddressHealth::Time time) { return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count(); }
std::int64_t ns(std::chrono::milliseconds time) { return std::chrono::nanoseconds(time).count(); }

/// How long a probe is waited for before another call may probe.
constexpr std::chrono::milliseconds kProbe{1'000};

}  // namespace

bool AddressHealth::enter(Time now) {
  auto until = aside_until_.load(std::memory_order_acquire);
  if (until == 0) return true;
  if (ns(now) < until) return false;
  if (!aside_until_.compare_exchange_strong(until, ns(now) + ns(kProbe), std::memory_order_acq_rel)) return until == 0;
  probing_.store(true, std::memory_order_release);
  return true;
}

void AddressHealth::close(Time now) {
  closed_at_.store(ns(now), std::memory_order_relaxed);
  probing_.store(false, std::memory_order_relaxed);
  aside_until_.store(0, std::memory_order_release);
}

void AddressHealth::connected(Time now) {
  if (aside() && why_.load(std::memory_order_relaxed) == Why::unreachable) close(now);
}

void AddressHealth::succeeded(Time now) {
  if (failures_.load(std::memory_order_relaxed) != 0) failures_.store(0, std::memory_order_relaxed);
  if (aside()) close(now);
}

void AddressHealth::unreachable(Time now) {
  const auto seen = aside_until_.load(std::memory_order_acquire);
  // Of many calls that find out at once, one sets the time; so does the probe.
  if (seen == 0 || probing_.exchange(false, std::memory_order_acq_rel)) eject(now, seen, Why::unreachable);
}

void AddressHealth::failed(Time now, bool may_eject) {
  const auto in_a_row = failures_.fetch_add(1, std::memory_order_relaxed) + 1;
  const auto seen = aside_until_.load(std::memory_order_acquire);
  if (seen != 0) {
    if (probing_.exchange(false, std::memory_order_acq_rel)) eject(now, seen, Why::calls);
  } else if (may_eject && options_.failures > 0 && in_a_row >= options_.failures) {
    eject(now, seen, Why::calls);
  }
}

void AddressHealth::eject(Time now, std::int64_t seen, Why why) {
  // An address that was well for longer than the longest time aside begins anew.
  const auto closed = closed_at_.load(std::memory_order_relaxed);
  const bool relapse = seen != 0 || (closed != 0 && ns(now) - closed < ns(options_.max_set_aside));
  const int before = relapse ? ejections_.load(std::memory_order_relaxed) : 0;
  auto wait = ns(options_.set_aside);
  for (int i = 0; i < before && wait < ns(options_.max_set_aside); ++i) wait *= 2;
  wait = std::min(wait, std::max(ns(options_.max_set_aside), ns(options_.set_aside)));
  if (!aside_until_.compare_exchange_strong(seen, ns(now) + wait, std::memory_order_acq_rel)) return;
  why_.store(why, std::memory_order_relaxed);
  ejections_.store(std::min(before + 1, 40), std::memory_order_relaxed);
}

AddressHealth::View AddressHealth::view(Time now) const {
  View view;
  view.failures_in_a_row = failures_.load(std::memory_order_relaxed);
  const auto until = aside_until_.load(std::memory_order_relaxed);
  if (until == 0) return view;
  view.unreachable = why_.load(std::memory_order_relaxed) == Why::unreachable;
  view.probing = probing_.load(std::memory_order_relaxed) || ns(now) >= until;
  view.aside_for = std::chrono::milliseconds(std::max<std::int64_t>((until - ns(now)) / 1'000'000, 1));
  return view;
}

std::shared_ptr<AddressHealth> PeerHealth::of(const Endpoint& endpoint) {
  std::lock_guard lock(mutex_);
  std::erase_if(addresses_, [](auto& known) { return known.second.expired(); });
  for (auto& [known, health] : addresses_)
    if (known == endpoint)
      if (auto found = health.lock()) return found;
  auto fresh = std::make_shared<AddressHealth>(options_);
  addresses_.emplace_back(endpoint, fresh);
  return fresh;
}

std::vector<PeerHealth::Row> PeerHealth::view(AddressHealth::Time now) const {
  std::lock_guard lock(mutex_);
  std::vector<Row> rows;
  for (auto& [endpoint, health] : addresses_)
    if (auto known = health.lock()) rows.push_back({to_authority(endpoint), known->view(now)});
  return rows;
}

void Peers::add(const std::shared_ptr<PeerHealth>& peer) {
  std::lock_guard lock(mutex_);
  peers_.push_back(peer);
}

std::vector<std::shared_ptr<PeerHealth>> Peers::all() const {
  std::lock_guard lock(mutex_);
  std::erase_if(peers_, [](auto& peer) { return peer.expired(); });
  std::vector<std::shared_ptr<PeerHealth>> found;
  for (auto& peer : peers_)
    if (auto known = peer.lock()) found.push_back(std::move(known));
  return found;
}

}  // namespace flexi::runtime::net
