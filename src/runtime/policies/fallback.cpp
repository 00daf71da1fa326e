// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/fallback.hpp"

#include <boost/asio/this_coro.hpp>
#include <optional>
#include <stdexcept>

#include "runtime/completion.hpp"

namespace flexi::runtime::policies {

namespace asio = boost::asio;
using core::ErrorKind;
using core::Sent;

Fallback::Fallback(std::vector<Way> ways, CircuitOptions options, Idempotent idempotent, Now now)
    : ways_(std::move(ways)), idempotent_(idempotent), now_(std::move(now)) {
  if (ways_.empty() || ways_.size() > 32) throw std::invalid_argument("a fallback wants 1 to 32 ways");
  for (auto& way : ways_)
    if (!way.circuit) way.circuit = std::make_shared<Circuit>(options);
}

namespace {
/// The way is down, not what it leads to.
bool is_down(const core::Error& error) { return error.kind == ErrorKind::unavailable && !error.answered; }
}  // namespace

/// One call by one way; tells the circuit how it went, also when the call is cancelled half-way.
class Fallback::Attempt {
 public:
  Attempt(const Way& way, const Now& now, Circuit::Entry entry)
      : circuit_(*way.circuit), figures_(way.figures), now_(now), probe_(entry == Circuit::Entry::probe), began_(figures_ ? now() : TimePoint{}) {}
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;
  ~Attempt() {
    if (probe_) circuit_.abandoned();
  }
  void finished(const core::Result<core::Reply>& result, bool late) {
    if (figures_) figures_->record(result ? std::nullopt : std::optional(result.error().kind), now_() - began_);
    if (late || (!result && result.error().kind == ErrorKind::cancelled)) return;  // says nothing about the way
    probe_ = false;
    if (!result && (is_down(result.error()) || result.error().kind == ErrorKind::deadline_exceeded)) circuit_.failed(now_);
    else circuit_.succeeded(now_);
  }

 private:
  Circuit& circuit_;
  WayFigures* const figures_;
  const Now& now_;
  bool probe_;
  const TimePoint began_;
};

/// Another way may be tried, while the caller has time.
bool Fallback::is_away(const core::Error& error, const core::CallContext& context) const {
  // A way's own time-out (Deadline around one attempt) is as good as unavailable while the caller still has time.
  const bool away = is_down(error) || error.kind == ErrorKind::unimplemented || error.kind == ErrorKind::deadline_exceeded;
  return away && (!context.has_deadline() || now_() < context.deadline);
}

bool Fallback::is_repeated_after(std::size_t index) const {
  for (auto later = index + 1; later < ways_.size(); ++later)
    if (repeats(later, index)) return true;
  return false;
}

/// @param said what the way says of itself ("amqp;queue=embedded"); what a remote process says of its own ways is not ours
std::string Fallback::name_of(std::size_t index, std::string said) const {
  const auto& name = ways_[index].name;
  const bool own = said.starts_with(name) && (said.size() == name.size() || said[name.size()] == ';');
  if (!own) said = name;
  if (index != 0) said.append(";fallback-from=").append(ways_.front().name);
  return said;
}

core::awaitable<core::Result<core::Reply>> Fallback::handle(core::Request request, core::CallContext context) {
  std::optional<core::Error> telling;
  auto sent = Sent::no;
  std::uint32_t passed_over = 0;
  std::optional<std::size_t> bound;  // the way that may have sent it: it goes by that one again, or by none
  // The first round leaves out what is set aside; the second asks just that.
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < ways_.size(); ++i) {
      const std::uint32_t bit = 1u << i;
      if ((round == 1 && !(passed_over & bit)) || (bound && !repeats(i, *bound))) continue;
      auto& way = ways_[i];
      const auto entry = round == 0 ? way.circuit->enter(now_) : Circuit::Entry::pass;
      if (entry == Circuit::Entry::refused) {
        passed_over |= bit;
        continue;
      }
      const bool last = round == 0 ? i + 1 == ways_.size() && passed_over == 0 : (passed_over >> i) == 1;
      Attempt attempt(way, now_, entry);
      auto result = co_await way.handler.handle(last ? std::move(request) : core::Request(request), context);
      const bool late = !result && result.error().kind == ErrorKind::deadline_exceeded && context.has_deadline() && now_() >= context.deadline;
      // A call that its caller gave up says nothing about the way, whatever error it ended with; and nobody waits for another.
      const bool left = (co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none;
      attempt.finished(result, late || (left && !result));
      if (result) {
        result.value().way = name_of(i, std::move(result.value().way));
        co_return result;
      }
      auto& error = result.error();
      if (error.sent == Sent::maybe) sent = Sent::maybe;
      // "Not here" of one way says less than "down" of another; and the way that it is bound to speaks for itself.
      const bool tells_more = !telling || bound || (telling->kind == ErrorKind::unimplemented && error.kind != ErrorKind::unimplemented);
      if (error.sent == Sent::maybe && idempotent_ == Idempotent::no) bound = i;
      if (last || left || !is_away(error, context) || (bound && !is_repeated_after(*bound))) {
        const bool away = is_down(error) || error.kind == ErrorKind::unimplemented;
        if (tells_more || !away) telling = std::move(error);
        telling->sent = sent;
        telling->way = name_of(i, {});
        co_return *telling;
      }
      if (tells_more) telling = std::move(error);
    }
  }
  // Nothing is left for what is bound to a way; else there is always a last one.
  if (telling) telling->sent = sent;
  if (telling && bound) telling->way = name_of(*bound, {});
  co_return telling ? *telling : core::unavailable("no transport is available");
}

}  // namespace flexi::runtime::policies
