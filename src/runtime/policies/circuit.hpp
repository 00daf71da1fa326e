// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "runtime/options.hpp"
#include "runtime/policies/clock.hpp"

namespace flexi::runtime::policies {

struct CircuitOptions {
  std::int64_t failures = 5;                    ///< so many failures in a row set a way aside; 0: never
  std::chrono::milliseconds ejection{1000};     ///< for how long the first time; doubles while it keeps failing
  std::chrono::milliseconds max_ejection{30000};

  void describe(OptionVisitor& v);
  Problems validate() const;
};

/// Remembers that a way fails, so that calls need not find out one by one: after some failures in a row it is refused
/// for a while, then one call at a time probes it. Costs two relaxed loads while all is well.
/// Source: Envoy's outlier detection (ejection time grows with each ejection)
/// Lifetime/threads: any thread
class Circuit {
 public:
  explicit Circuit(CircuitOptions options) : options_(options) {}

  enum class Entry { pass, probe, refused };
  /// A `probe` must be followed by succeeded(), failed() or abandoned().
  Entry enter(const Now& now);
  void succeeded(const Now& now);
  void failed(const Now& now);
  /// The call was cancelled before it could tell.
  void abandoned() { probing_.store(false, std::memory_order_release); }
  /// For how long it is refused yet; 0: its next call goes through, as a probe where open() says so.
  std::chrono::milliseconds refused_for(const Now& now) const;
  bool open() const { return refused_until_.load(std::memory_order_relaxed) != 0; }

 private:
  void eject(std::int64_t now, std::int64_t seen);
  CircuitOptions options_;
  std::atomic<std::int64_t> failures_{0};       ///< in a row
  std::atomic<std::int64_t> refused_until_{0};  ///< ns of the steady clock; 0: closed
  std::atomic<std::int64_t> closed_at_{0};
  std::atomic<int> ejections_{0};  ///< without a longer good stretch in between
  std::atomic<bool> probing_{false};
};

}  // namespace flexi::runtime::policies
