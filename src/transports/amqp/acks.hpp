// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

namespace flexi::transports::amqp {

/// Which deliveries of one channel are finished, so that many can be acknowledged by one frame: everything up to a tag,
/// but never one that is still being worked on or that stays unacknowledged.
class Acks {
 public:
  struct Ack {
    std::uint64_t tag;
    bool multiple;
  };
  /// Tags come in order, from 1.
  void taken(std::uint64_t tag) {
    if (states_.empty()) first_ = tag;
    states_.push_back(State::open);
  }
  /// To be acknowledged by the next collect().
  void finished(std::uint64_t tag) { set(tag, State::finished); }
  /// Answered apart (rejected): the run goes on over it.
  void settled(std::uint64_t tag) { set(tag, State::settled); }
  /// What to send now.
  std::vector<Ack> collect() {
    std::vector<Ack> acks;
    std::uint64_t last = 0, count = 0;
    while (!states_.empty() && states_.front() != State::open) {
      if (states_.front() == State::finished) last = first_, ++count;
      states_.pop_front();
      ++first_;
    }
    if (last != 0) acks.push_back({last, count > 1});
    if (dirty_ > 0) {
      for (std::size_t i = 0; i < states_.size(); ++i) {
        if (states_[i] != State::finished) continue;
        // Behind one that is still open: alone.
        acks.push_back({first_ + i, false});
        states_[i] = State::settled;
      }
    }
    dirty_ = 0;
    return acks;
  }
  void clear() { states_.clear(), dirty_ = 0; }
  std::size_t size() const { return states_.size(); }

 private:
  enum class State : unsigned char { open, finished, settled };
  void set(std::uint64_t tag, State state) {
    if (tag < first_ || tag - first_ >= states_.size()) return;
    states_[tag - first_] = state;
    ++dirty_;
  }
  std::deque<State> states_;
  std::uint64_t first_ = 1;
  std::size_t dirty_ = 0;
};

}  // namespace flexi::transports::amqp
