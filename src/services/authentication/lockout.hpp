// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "runtime/metrics.hpp"
#include "runtime/options.hpp"

namespace flexi::services::authentication {

struct LockoutOptions {
  std::int64_t free_failures = 5;                        ///< before the first delay; 0: never any
  std::chrono::milliseconds first_delay{1'000};          ///< doubles with each further failure
  std::chrono::milliseconds max_delay{15 * 60 * 1'000};  ///< failures are forgotten after as long without one
  std::int64_t max_entries = 100'000;                    ///< accounts and addresses that are remembered; past it the oldest goes

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// Makes guessing slow. It counts by account and by where the guesses come from, so that a guesser locks out nobody but himself.
/// Lifetime/threads: any thread; outlives its attempts
class Lockout {
 public:
  using Clock = std::chrono::steady_clock;
  using Now = std::function<Clock::time_point()>;
  Lockout(LockoutOptions options, runtime::Metrics& metrics, Now now = Clock::now);

  /// One login under way. Destroyed without a word it counts as nothing.
  class Attempt {
   public:
    Attempt(Attempt&& other) noexcept : lockout_(std::exchange(other.lockout_, nullptr)), key_(std::move(other.key_)), refused_(other.refused_) {}
    ~Attempt();
    /// Too early: whatever the password is, the answer is no. Refused attempts neither count nor prolong.
    bool refused() const { return refused_; }
    void succeeded();
    /// @return the delay that begins with this failure, where one does
    std::optional<std::chrono::milliseconds> failed();

   private:
    friend class Lockout;
    Attempt(Lockout* lockout, std::string key, bool refused) : lockout_(lockout), key_(std::move(key)), refused_(refused) {}
    Lockout* lockout_;  ///< null: it has ended
    std::string key_;
    bool refused_;
  };
  /// @param account the same text for the same account
  /// @param client  an address as text; of IPv6 its first 64 bits count, which one household has to itself
  Attempt begin(std::string_view account, std::string_view client);

  std::size_t size() const;

 private:
  struct Entry {
    std::string key;
    std::int64_t failures = 0, under_way = 0;
    Clock::time_point locked_until{};
  };
  using Entries = std::list<Entry>;
  enum class Outcome { nothing, success, failure };
  std::optional<std::chrono::milliseconds> end(const std::string& key, Outcome outcome);
  Entry& entry_of(std::string key);
  void make_room();
  std::chrono::milliseconds delay_after(std::int64_t failures) const;

  const LockoutOptions options_;
  const Now now_;
  runtime::Metrics::Counter delays_;
  runtime::Metrics::Gauge tracked_;
  mutable std::mutex mutex_;
  Entries entries_;  ///< the one used last in front
  std::unordered_map<std::string_view, Entries::iterator> by_key_;  ///< views of the entries' keys
};

/// The part of an address that its owner can't change at will.
std::string network_of(std::string_view address);

}  // namespace flexi::services::authentication
