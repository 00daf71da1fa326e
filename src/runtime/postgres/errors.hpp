// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::runtime::postgres {

/// PostgreSQL's SQLSTATE as an Error: what the caller can do. Source: PostgreSQL manual, appendix A
/// @param words PostgreSQL's own, for the log
core::Error to_error(std::string_view sqlstate, std::string_view words);

/// The SQLSTATE in libpq's words about a connection that failed (PQERRORS_VERBOSE: "FATAL:  28P01: password …"); "" where there is none.
std::string sqlstate_in(std::string_view words);

/// Another try can't succeed before somebody mends something: the login, the database's name.
bool is_refused_login(std::string_view sqlstate);
/// The connection is of no use any more, though it stands: what was prepared has gone or changed.
bool is_stale_statement(std::string_view sqlstate);
/// A table or column is not there: the schema must be looked at again.
bool is_missing_object(std::string_view sqlstate);

}  // namespace flexi::runtime::postgres
