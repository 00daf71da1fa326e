// SPDX-License-Identifier: Apache-2.0
#include "services/listener/joined_dead_letters.hpp"

#include <charconv>
#include <optional>
#include <set>

namespace flexi::services::listener {

using core::DeadLetterPage;
using core::Result;

namespace {

/// What another place may yet know better: this one has not got the letter, or can't say.
bool ask_on(const core::Error& error) { return error.kind == core::ErrorKind::not_found || core::is_transient(error.kind); }

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
  std::optional<core::Error> unasked;
  for (; place < places_.size(); ++place, cursor.clear()) {
    auto part = co_await places_[place].get().list(limit - static_cast<unsigned>(page.letters.size()), cursor, context);
    if (!part && core::is_transient(part.error().kind)) {
      if (!unasked) unasked = part.error();
      continue;
    }
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
  if (unasked && page.letters.empty()) co_return *unasked;
  if (unasked) page.missing = unasked->message;
  co_return page;
}

core::awaitable<Result<core::DeadLetter>> JoinedDeadLetters::get(core::DeadLetterKey key, core::CallContext context) {
  std::optional<core::DeadLetter> first;
  std::set<std::string> actions;
  Result<core::DeadLetter> answer = core::not_found("no such dead letter");
  for (auto& place : places_) {
    auto asked = co_await place.get().get(key, context);
    if (asked) {
      actions.insert(asked.value().action);
      if (!first) first = std::move(asked).value();
      if (!key.action.empty()) break;
    } else if (!ask_on(asked.error())) {
      co_return asked;
    } else if (asked.error().kind != core::ErrorKind::not_found) {
      answer = asked.error();
    }
  }
  if (actions.size() > 1) co_return core::ambiguous_dead_letter(actions);
  if (first) co_return std::move(*first);
  co_return answer;
}

core::awaitable<Result<void>> JoinedDeadLetters::end(End how, core::DeadLetterKey key, core::CallContext context) {
  if (key.action.empty()) {
    auto meant = co_await get(key, context);
    if (!meant) co_return meant.error();
    key.action = meant.value().action;
  }
  Result<void> answer = core::not_found("no such dead letter");
  for (auto& place : places_) {
    auto ended = co_await (place.get().*how)(key, context);
    if (ended || !ask_on(ended.error())) co_return ended;
    if (ended.error().kind != core::ErrorKind::not_found) answer = ended.error();
  }
  co_return answer;
}

core::awaitable<Result<void>> JoinedDeadLetters::replay(core::DeadLetterKey key, core::CallContext context) {
  return end(&core::DeadLetters::replay, std::move(key), std::move(context));
}

core::awaitable<Result<void>> JoinedDeadLetters::discard(core::DeadLetterKey key, core::CallContext context) {
  return end(&core::DeadLetters::discard, std::move(key), std::move(context));
}

core::awaitable<Result<core::DeadLettersSwept>> JoinedDeadLetters::sweep(core::DeadLetterSweep what, core::CallContext context) {
  core::DeadLettersSwept all;
  std::optional<core::Error> failure;
  for (auto& place : places_) {
    auto swept = co_await place.get().sweep(what, context);
    if (!swept) {
      if (!failure) failure = swept.error();
      continue;
    }
    all.letters += swept.value().letters;
    all.more |= swept.value().more;
  }
  if (failure) co_return *failure;
  co_return all;
}

}  // namespace flexi::services::listener
