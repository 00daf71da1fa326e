// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/account_rules.hpp"
#include "services/authentication/authentication_service.hpp"

namespace flexi::services::authentication {

void AuthenticationOptions::describe(runtime::OptionVisitor& visitor) {
  visitor.group("passwords", "How passwords are hashed and checked", passwords);
  visitor.group("lockout", "What failed logins cost who makes them", lockout);
  visitor.field("min_password_length", min_password_length, "Characters that a new password must have, 8 to 64");
  visitor.field("common_passwords_file", common_passwords_file, "Passwords that are refused for being common, one a line, beside those that the program knows");
  visitor.field("wide_password_column", wide_password_column, "The migration that makes room for Argon2id in the contract's PostgreSQL table has been run");
  visitor.field("token_key_file", token_key_file,
                "Key of the tokens that logins get: a secret of 32 bytes or more, or a PEM private key (P-256 or RSA); none: no tokens, except where everything is one process");
  visitor.field("token_lifetime", token_lifetime, "How long a token is valid");
  visitor.field("token_issuer", token_issuer, "Who gives the tokens, as they say themselves");
  visitor.field("administrators", administrators, "E-mail addresses of the users whose tokens may read and administer");
  visitor.field("entry_timeout", entry_timeout, "How long a login waits, at most, for the log entry that it leaves");
}

runtime::Problems AuthenticationOptions::validate() const {
  runtime::Problems problems;
  runtime::append_problems(problems, "passwords", passwords.validate());
  runtime::append_problems(problems, "lockout", lockout.validate());
  if (min_password_length < 8 || min_password_length > 64) problems.push_back({"min_password_length", "must be 8 to 64"});
  if (token_lifetime < std::chrono::minutes(1) || token_lifetime > std::chrono::hours(30 * 24)) problems.push_back({"token_lifetime", "must be 1m to 30d"});
  if (token_issuer.empty() || token_issuer.size() > 200) problems.push_back({"token_issuer", "must be 1 to 200 characters"});
  for (auto& email : administrators)
    if (!check_email(email)) problems.push_back({"administrators", "\"" + email + "\" is no e-mail address"});
  if (entry_timeout.count() < 1 || entry_timeout > std::chrono::minutes(1)) problems.push_back({"entry_timeout", "must be 1ms to 1m"});
  return problems;
}

runtime::Problems AuthenticationOptions::validate_for_contract_table() const {
  if (!passwords.uses_argon2() || wide_password_column) return {};
  return {{"passwords.algorithm",
           "argon2id makes hashes of about 100 characters, which the contract's column users.password varchar(60) does not hold: run the migration "
           "schemas/postgres/optional/widen_password.sql once, then set authentication.wide_password_column = true"}};
}

}  // namespace flexi::services::authentication
