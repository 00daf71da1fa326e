// SPDX-License-Identifier: Apache-2.0
#include "services/listener/joined_dead_letters.hpp"

#include <charconv>

namespace flexi::services::listener {

using core::DeadLetterPage;
using core::Result;

namespace {

/// What another place may yet know better: this one has not got the letter, or can't say.
bool ask_on(const core::Error& error) { return error.kind == core::ErrorKind::not_found || core::is_transient(error.kind); }

/// Asks one place after the other; a place that could not be asked outweighs one that has nothing.
template <class T, class Ask>
core::awaitable<Result<T>> ask_each(const std::vector<std::reference_wrapper<core::DeadLetters>>& places, Ask ask) {
  Result<T> answer = core::not_found("no such dead letter");
  for (auto& place : places) {
    auto asked = co_await ask(place.get());
    if (asked || !ask_on(asked.error())) co_return asked;
    if (asked.error().kind != core::ErrorKind::not_found) answer = asked.error();
  }
  co_return answer;
}

}  // namespace

core::awaitable<Result<DeadLetterPage>> JoinedDeadLetters::list(unsigned limit, std::string cursor, core::CallContext context) {
  // "<place>/<the place's own cursor>"
  std::size_t place = 0;
  if (!cursor.empty()) {
    const auto slash = std::min(cursor.find('/'), cursor.size());
    const auto [end, ec] = std::from_chars(cursor.data(), cursor.data() + slash, place);
    if (slash == cursor.size() || ec != std::errc() || end != cursor.data() + slash || place >= places_.size())
      co_return core::invalid_argument("cursor: not one that a page of dead letters ended with");
    cursor.erase(0, slash + 1);
  }
  DeadLetterPage page;
  for (; place < places_.size(); ++place, cursor.clear()) {
    auto part = co_await places_[place].get().list(limit - static_cast<unsigned>(page.letters.size()), cursor, context);
    if (!part) co_return part.error();
    for (auto& letter : part.value().letters) page.letters.push_back(std::move(letter));
    if (!part.value().next.empty()) {
      page.next = std::to_string(place) + "/" + part.value().next;
      break;
    }
    if (page.letters.size() >= limit) {
      if (place + 1 < places_.size()) page.next = std::to_string(place + 1) + "/";
      break;
    }
  }
  co_return page;
}

core::awaitable<Result<core::DeadLetter>> JoinedDeadLetters::get(core::MessageId id, core::CallContext context) {
  auto ask = [&](core::DeadLetters& place) { return place.get(id, context); };
  co_return co_await ask_each<core::DeadLetter>(places_, ask);
}

core::awaitable<Result<void>> JoinedDeadLetters::replay(core::MessageId id, core::CallContext context) {
  auto ask = [&](core::DeadLetters& place) { return place.replay(id, context); };
  co_return co_await ask_each<void>(places_, ask);
}

core::awaitable<Result<void>> JoinedDeadLetters::discard(core::MessageId id, core::CallContext context) {
  auto ask = [&](core::DeadLetters& place) { return place.discard(id, context); };
  co_return co_await ask_each<void>(places_, ask);
}

}  // namespace flexi::services::listener
