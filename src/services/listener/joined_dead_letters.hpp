// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include "core/dead_letters.hpp"

namespace flexi::services::listener {

/// Several places that keep dead letters as one: a queue's, and those that its publisher's spool could not hand over.
/// Lists one place after the other, so letters are newest first within each.
/// Lifetime/threads: any thread; the places outlive it
class JoinedDeadLetters final : public core::DeadLetters {
 public:
  explicit JoinedDeadLetters(std::vector<std::reference_wrapper<core::DeadLetters>> places) : places_(std::move(places)) {}
  /// Where a place can't be asked, the others' letters, and `missing` says so; its error only where there is no letter to show.
  /// @return invalid_argument for a cursor that is not one
  core::awaitable<core::Result<core::DeadLetterPage>> list(unsigned limit, std::string cursor, core::CallContext context) override;
  /// Where a place can't be asked, the others are; not_found only where all were, and conflict by those that were.
  core::awaitable<core::Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<void>> replay(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<void>> discard(core::DeadLetterKey key, core::CallContext context) override;
  /// Every place, also behind one that fails; its failure is the answer then.
  core::awaitable<core::Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep what, core::CallContext context) override;

 private:
  using End = core::awaitable<core::Result<void>> (core::DeadLetters::*)(core::DeadLetterKey, core::CallContext);
  /// In the first place that has it. A place that could not be asked outweighs one that has nothing.
  core::awaitable<core::Result<void>> end(End how, core::DeadLetterKey key, core::CallContext context);
  std::vector<std::reference_wrapper<core::DeadLetters>> places_;
};

}  // namespace flexi::services::listener
