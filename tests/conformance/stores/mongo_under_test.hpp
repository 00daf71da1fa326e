// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "store_under_test.hpp"

namespace flexi::conformance {

/// The log store in MongoDB, behind a gate that can hold and refuse its statements. Not of a folder, but of a database of that name.
std::unique_ptr<StoreUnderTest> make_mongo_under_test(std::filesystem::path folder);
std::optional<std::string> missing_mongo();

}  // namespace flexi::conformance
