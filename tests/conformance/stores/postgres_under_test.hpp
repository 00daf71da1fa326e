// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "store_under_test.hpp"

namespace flexi::conformance {

/// Over the test run's PostgreSQL, in a database of its own.
StoreKind postgres_kind();

}  // namespace flexi::conformance
