// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace flexi::runtime::net {

struct OutlierOptions {
  std::chrono::milliseconds set_aside{1'000};      ///< how long the first time; doubles while it keeps failing
  std::chrono::milliseconds max_set_aside{30'000};
  std::int64_t failures = 5;                       ///< calls in a row that must fail; 0: calls never set an address aside
};

/// What is known of one address of a peer: whether it is used, set aside for a while, or probed with one call.
/// Source: Envoy's outlier detection (consecutive failures; ejection time grows with each ejection)
/// Lifetime/threads: any thread; costs one relaxed load while all is well
class AddressHealth {
 public:
  using Time = std::chrono::steady_clock::time_point;
  explicit AddressHealth(OutlierOptions options) : options_(options) {}

  /// Whether the next call may go there. Where its time aside is over, the one call that is told so is the probe; without
  /// a word of how that went, another probes after a while.
  bool enter(Time now);
  bool aside() const { return aside_until_.load(std::memory_order_relaxed) != 0; }
  Time due() const { return Time(std::chrono::nanoseconds(aside_until_.load(std::memory_order_relaxed))); }

  /// A connection was opened. Says nothing about an address whose calls fail.
  void connected(Time now);
  /// No connection could be opened: one failure is enough.
  void unreachable(Time now);
  void succeeded(Time now);
  /// @param may_eject false: too many other addresses are set aside already
  void failed(Time now, bool may_eject);

  struct View {
    std::int64_t failures_in_a_row = 0;
    std::chrono::milliseconds aside_for{0};  ///< 0: it is used
    bool probing = false;                    ///< its time is over, or one call tries it
    bool unreachable = false;                ///< why it is aside: no connection; else its calls failed
  };
  View view(Time now) const;

 private:
  enum class Why { calls, unreachable };
  void eject(Time now, std::int64_t seen, Why why);
  void close(Time now);

  const OutlierOptions options_;
  std::atomic<std::int64_t> failures_{0};     ///< in a row
  std::atomic<std::int64_t> aside_until_{0};  ///< ns of the steady clock; 0: it is used
  std::atomic<std::int64_t> closed_at_{0};
  std::atomic<int> ejections_{0};  ///< without a longer good stretch in between
  std::atomic<bool> probing_{false};
  std::atomic<Why> why_{Why::calls};
};

/// The addresses of one peer, for all shards that call it: one finds out for all.
/// Lifetime/threads: any thread
class PeerHealth {
 public:
  using Endpoint = boost::asio::ip::tcp::endpoint;
  PeerHealth(std::string peer, OutlierOptions options) : peer_(std::move(peer)), options_(options) {}

  const std::string& peer() const { return peer_; }
  /// The record of an address; made where there is none yet.
  std::shared_ptr<AddressHealth> of(const Endpoint& endpoint);
  struct Row {
    std::string address;
    AddressHealth::View view;
  };
  std::vector<Row> view(AddressHealth::Time now) const;

 private:
  const std::string peer_;
  const OutlierOptions options_;
  mutable std::mutex mutex_;
  std::vector<std::pair<Endpoint, std::weak_ptr<AddressHealth>>> addresses_;
};

/// Every peer that this process calls, for those who want to see them.
/// Lifetime/threads: any thread; outlives nothing: what it lists belongs to the clients
class Peers {
 public:
  void add(const std::shared_ptr<PeerHealth>& peer);
  std::vector<std::shared_ptr<PeerHealth>> all() const;

 private:
  mutable std::mutex mutex_;
  mutable std::vector<std::weak_ptr<PeerHealth>> peers_;
};

}  // namespace flexi::runtime::net
