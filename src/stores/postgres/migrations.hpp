// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace flexi::stores::postgres {

/// A file of schemas/postgres, e.g. "0001_users.sql". Aborts where there is none.
std::string_view migration(std::string_view name);

}  // namespace flexi::stores::postgres
