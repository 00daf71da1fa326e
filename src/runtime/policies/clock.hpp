// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>

#include "core/handler.hpp"

namespace flexi::runtime::policies {

using TimePoint = core::CallContext::Clock::time_point;

/// What a policy takes for the time, so that its tests need not wait. Called from any thread.
using Now = std::function<TimePoint()>;
inline TimePoint steady_now() { return core::CallContext::Clock::now(); }

/// Whether the same request may be carried out twice without harm: what may be tried again after `Sent::maybe`.
enum class Idempotent { no, yes };

/// An error, in the shape of a handler's answer.
inline core::awaitable<core::Result<core::Reply>> refuse(core::Error error) { co_return error; }

}  // namespace flexi::runtime::policies
