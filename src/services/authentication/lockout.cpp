// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/lockout.hpp"

#include <algorithm>
#include <boost/asio/ip/address.hpp>

namespace flexi::services::authentication {

namespace {

namespace ip = boost::asio::ip;
using std::chrono::milliseconds;

// No account's e-mail is longer, so two longer ones may well be one.
constexpr std::size_t kMaxAccountBytes = 256, kMaxAddressBytes = 64;

}  // namespace

void LockoutOptions::describe(runtime::OptionVisitor& visitor) {
  visitor.field("free_failures", free_failures, "Failed logins of one account from one address before the next must wait; 0: none ever waits");
  visitor.field("first_delay", first_delay, "The first wait; it doubles with each further failure");
  visitor.field("max_delay", max_delay, "The longest wait; as long without a failure forgets them all");
  visitor.field("max_entries", max_entries, "Accounts and addresses that are remembered; past it the one that was seen longest ago is forgotten");
}

runtime::Problems LockoutOptions::validate() const {
  runtime::Problems problems;
  if (free_failures < 0 || free_failures > 1'000) problems.push_back({"free_failures", "must be 0 to 1000"});
  if (first_delay < milliseconds(1) || first_delay > std::chrono::hours(1)) problems.push_back({"first_delay", "must be 1ms to 1h"});
  if (max_delay < first_delay || max_delay > std::chrono::hours(24)) problems.push_back({"max_delay", "must be first_delay to 24h"});
  if (max_entries < 1'000 || max_entries > 10'000'000) problems.push_back({"max_entries", "must be 1000 to 10000000"});
  return problems;
}

std::string network_of(std::string_view address) {
  boost::system::error_code ec;
  auto parsed = ip::make_address(std::string(address.substr(0, kMaxAddressBytes)), ec);
  if (ec) return std::string(address.substr(0, kMaxAddressBytes));
  if (parsed.is_v6() && parsed.to_v6().is_v4_mapped()) parsed = ip::make_address_v4(ip::v4_mapped, parsed.to_v6());
  if (parsed.is_v4()) return parsed.to_string();
  auto bytes = parsed.to_v6().to_bytes();
  std::fill(bytes.begin() + 8, bytes.end(), std::uint8_t(0));
  return ip::address_v6(bytes).to_string() + "/64";
}

Lockout::Lockout(LockoutOptions options, runtime::Metrics& metrics, Now now)
    : options_(options), now_(std::move(now)),
      delays_(metrics.counter("flexi_lockout_delays_total", "Failed logins after which the account must wait, as seen from that address")),
      tracked_(metrics.gauge("flexi_lockout_entries", "Accounts and addresses with failed logins that are remembered")) {}

Lockout::Attempt Lockout::begin(std::string_view account, std::string_view client) {
  if (options_.free_failures == 0) return {nullptr, {}, false};
  std::string key(account.substr(0, kMaxAccountBytes));
  key.append(1, '\n').append(network_of(client));
  std::lock_guard lock(mutex_);
  auto& entry = entry_of(key);
  const auto now = now_();
  if (now >= entry.locked_until + options_.max_delay && entry.under_way == 0) entry.failures = 0;
  // Those under way may all fail: guesses at the same time are guesses all the same.
  const bool refused = now < entry.locked_until || (entry.under_way > 0 && entry.failures + entry.under_way >= options_.free_failures);
  if (refused) return {nullptr, {}, true};
  ++entry.under_way;
  return {this, std::move(key), false};
}

Lockout::Entry& Lockout::entry_of(std::string key) {
  if (auto found = by_key_.find(key); found != by_key_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    return entries_.front();
  }
  make_room();
  entries_.push_front({.key = std::move(key)});
  by_key_.emplace(entries_.front().key, entries_.begin());
  tracked_.set(static_cast<double>(entries_.size()));
  return entries_.front();
}

void Lockout::make_room() {
  if (static_cast<std::int64_t>(entries_.size()) < options_.max_entries) return;
  // Those under way are few, and in front.
  const auto last = std::find_if(entries_.rbegin(), entries_.rend(), [](auto& entry) { return entry.under_way == 0; });
  if (last == entries_.rend()) return;
  by_key_.erase(last->key);
  entries_.erase(std::next(last).base());
}

milliseconds Lockout::delay_after(std::int64_t failures) const {
  auto delay = options_.first_delay;
  for (auto i = options_.free_failures; i < failures && delay < options_.max_delay; ++i) delay *= 2;
  return std::min(delay, options_.max_delay);
}

std::optional<milliseconds> Lockout::end(const std::string& key, Outcome outcome) {
  std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  auto& entry = *found->second;
  --entry.under_way;
  std::optional<milliseconds> delay;
  if (outcome == Outcome::failure && ++entry.failures >= options_.free_failures) {
    delay = delay_after(entry.failures);
    entry.locked_until = std::max(entry.locked_until, now_() + *delay);
    delays_.add();
  } else if (outcome == Outcome::failure) {
    entry.locked_until = std::max(entry.locked_until, now_());  // forgotten from here on
  } else if (outcome == Outcome::success) {
    entry.failures = 0;
    entry.locked_until = {};
  }
  if (entry.failures == 0 && entry.under_way == 0) {
    const auto gone = found->second;
    by_key_.erase(found);
    entries_.erase(gone);
    tracked_.set(static_cast<double>(entries_.size()));
  }
  return delay;
}

std::size_t Lockout::size() const {
  std::lock_guard lock(mutex_);
  return entries_.size();
}

Lockout::Attempt::~Attempt() {
  if (lockout_) lockout_->end(key_, Outcome::nothing);
}

void Lockout::Attempt::succeeded() {
  if (auto* lockout = std::exchange(lockout_, nullptr)) lockout->end(key_, Outcome::success);
}

std::optional<milliseconds> Lockout::Attempt::failed() {
  auto* lockout = std::exchange(lockout_, nullptr);
  return lockout ? lockout->end(key_, Outcome::failure) : std::nullopt;
}

}  // namespace flexi::services::authentication
