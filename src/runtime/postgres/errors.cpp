// SPDX-License-Identifier: Apache-2.0
#include "runtime/postgres/errors.hpp"

#include <algorithm>
#include <cctype>
#include <chrono>

namespace flexi::runtime::postgres {

namespace {

core::Error later(std::string message, std::string detail) {
  auto error = core::unavailable(std::move(message), std::move(detail));
  error.retry_after = std::chrono::seconds(1);
  return error;
}

}  // namespace

core::Error to_error(std::string_view state, std::string_view words) {
  const std::string detail = "PostgreSQL" + (state.empty() ? std::string() : " " + std::string(state)) + ": " + std::string(words);
  const auto kind = state.substr(0, 2);
  if (state.empty()) return later("the database can't be reached", detail);
  if (kind == "08" || state == "57P01" || state == "57P02") return later("the connection to the database was lost", detail);
  if (state == "57P03") return later("the database is starting or stopping", detail);
  if (state == "57014") return core::deadline_exceeded("the database did not answer in time", detail);
  if (kind == "28") return later("the database refuses the login: look at user and password of postgres.dsn", detail);
  if (state == "3D000") return later("the database that postgres.dsn names does not exist", detail);
  if (state == "53300") return later("the database has too many connections", detail);
  if (state == "53100") return later("the database's disk is full", detail);
  if (kind == "53" || kind == "57" || kind == "58") return later("the database can't do it now", detail);
  if (state == "55P03" || kind == "40") return later("the database is busy, try again", detail);
  if (state == "25006") return later("the database takes no writes now: it is read only", detail);
  if (state == "42501") return later("the database refuses: its role lacks a privilege, which its owner must grant", detail);
  if (is_missing_object(state)) return later("the database lacks a table or a column", detail);
  if (is_stale_statement(state)) return later("the database was changed, try again", detail);
  if (state == "23505" || state == "23P01") return core::conflict("this is there already", detail);
  if (state == "22001") return core::invalid_argument("a text is too long for the database", detail);
  if (state == "22021" || state == "22P05") return core::invalid_argument("text must be UTF-8 without NUL", detail);
  if (kind == "22") return core::invalid_argument("a value is out of the database's range", detail);
  if (kind == "23" || kind == "44") return core::invalid_argument("a value breaks a rule of the database", detail);
  return core::internal("internal error", detail);
}

std::string sqlstate_in(std::string_view words) {
  // The last one: libpq tells of each address and of each way of TLS that it tried.
  std::string found;
  for (auto at = words.find(":  "); at != words.npos; at = words.find(":  ", at + 1)) {
    const auto state = words.substr(at + 3, 5);
    const auto is_state_char = [](unsigned char c) { return std::isdigit(c) || std::isupper(c); };
    if (state.size() == 5 && std::all_of(state.begin(), state.end(), is_state_char) && words.substr(at + 8, 2) == ": ") found = state;
  }
  return found;
}

bool is_refused_login(std::string_view state) { return state.substr(0, 2) == "28" || state == "3D000"; }
bool is_stale_statement(std::string_view state) { return state == "26000" || state == "0A000" || state == "42P05"; }
bool is_missing_object(std::string_view state) { return state == "42P01" || state == "42703" || state == "3F000"; }

}  // namespace flexi::runtime::postgres
