// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/handler.hpp"

namespace flexi::core {

struct User {
  std::int64_t id = 0;  ///< given by the store
  std::string email;
  std::string first_name;
  std::string last_name;
  std::string password_hash;  ///< a crypt(3) string, never leaves the authentication service
  bool active = true;
  Timestamp created_at{};
  Timestamp updated_at{};
};

/// What became of an account that was brought from elsewhere.
enum class Restored { added, same };

/// Where accounts live. A duplicate e-mail (exactly equal) is `conflict`; a missing user is `not_found`.
/// Lifetime/threads: any thread; outlives its calls
class UserStore {
 public:
  virtual ~UserStore() = default;
  /// By last name, then first name, then id.
  virtual awaitable<Result<std::vector<User>>> list(CallContext context) = 0;
  /// Matches exactly first, else without case where that is unique, else not_found.
  virtual awaitable<Result<User>> find_by_email(std::string email, CallContext context) = 0;
  virtual awaitable<Result<User>> find(std::int64_t id, CallContext context) = 0;
  /// @param user id, created_at and updated_at are ignored
  /// @return     the user as stored
  virtual awaitable<Result<User>> insert(User user, CallContext context) = 0;
  /// Inserts the account as it is: id, hash and times included. Later inserts get ids beyond it.
  /// @param user id above 0; times count to the microsecond
  /// @return     same where this very account is there already; conflict where its id or its e-mail is another's; invalid_argument for an id
  ///             that this store can't have
  virtual awaitable<Result<Restored>> restore(User user, CallContext context) = 0;
  /// Writes e-mail, names and active; not the password.
  virtual awaitable<Result<void>> update(User user, CallContext context) = 0;
  virtual awaitable<Result<void>> set_password_hash(std::int64_t id, std::string hash, CallContext context) = 0;
  /// Writes `hash` only where `expected` still stands: a reset that came between wins.
  /// @return conflict where it does not
  virtual awaitable<Result<void>> replace_password_hash(std::int64_t id, std::string expected, std::string hash, CallContext context) = 0;
  virtual awaitable<Result<void>> remove(std::int64_t id, CallContext context) = 0;
};

}  // namespace flexi::core
