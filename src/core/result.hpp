// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/outcome/basic_result.hpp>
#include <boost/outcome/policy/terminate.hpp>
#include <boost/outcome/try.hpp>

#include "core/error.hpp"

namespace flexi::core {

/// A value or an Error. Reading the side that is not there aborts: that is a bug, never bad input.
template <class T>
using Result = BOOST_OUTCOME_V2_NAMESPACE::basic_result<T, Error, BOOST_OUTCOME_V2_NAMESPACE::policy::terminate>;

/// What a Result<void>-returning function returns when all went well: `return core::ok();`
inline auto ok() { return BOOST_OUTCOME_V2_NAMESPACE::success(); }

}  // namespace flexi::core

/// `FLEXI_CO_TRY(value, expression)` / `FLEXI_TRY`: unwrap a Result, or return its Error from the (coroutine) function.
#define FLEXI_TRY(...) BOOST_OUTCOME_TRY(__VA_ARGS__)
#define FLEXI_CO_TRY(...) BOOST_OUTCOME_CO_TRY(__VA_ARGS__)
