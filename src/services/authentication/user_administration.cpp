// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/user_administration.hpp"

#include <charconv>

#include "services/authentication/account_rules.hpp"

namespace flexi::services::authentication {

using core::awaitable, core::CallContext, core::Result, core::User;

namespace {

Result<void> check_person(std::string_view email, std::string_view first_name, std::string_view last_name) {
  FLEXI_TRY(check_email(email));
  FLEXI_TRY(check_person_name("first_name", first_name));
  return check_person_name("last_name", last_name);
}

Result<void> check_new_user(const NewUser& user, const PasswordPolicy& policy) {
  FLEXI_TRY(check_person(user.email, user.first_name, user.last_name));
  return policy.check(user.password, {user.email, user.first_name, user.last_name});
}

}  // namespace

awaitable<Result<User>> UserAdministration::add(NewUser user, CallContext context) {
  if (auto checked = check_new_user(user, policy_); !checked) co_return checked.error();
  auto hash = co_await hasher_.hash(std::move(user.password), context);
  if (!hash) co_return hash.error();
  User stored;
  stored.email = std::move(user.email);
  stored.first_name = std::move(user.first_name);
  stored.last_name = std::move(user.last_name);
  stored.password_hash = std::move(hash.value());
  stored.active = user.active;
  co_return co_await users_.insert(std::move(stored), context);
}

awaitable<Result<std::vector<User>>> UserAdministration::list(CallContext context) { return users_.list(std::move(context)); }

awaitable<Result<User>> UserAdministration::find(std::string who, CallContext context) {
  std::int64_t id = 0;  // an e-mail has an '@', so the two can't be mixed up
  auto [end, ec] = std::from_chars(who.data(), who.data() + who.size(), id);
  if (ec == std::errc() && end == who.data() + who.size()) return users_.find(id, std::move(context));
  return users_.find_by_email(std::move(who), std::move(context));
}

awaitable<Result<User>> UserAdministration::change(std::string who, UserChanges changes, CallContext context) {
  auto user = co_await find(std::move(who), context);
  if (!user) co_return user.error();
  auto& now = user.value();
  if (changes.email) now.email = std::move(*changes.email);
  if (changes.first_name) now.first_name = std::move(*changes.first_name);
  if (changes.last_name) now.last_name = std::move(*changes.last_name);
  if (changes.active) now.active = *changes.active;
  if (auto checked = check_person(now.email, now.first_name, now.last_name); !checked) co_return checked.error();
  auto updated = co_await users_.update(now, context);
  if (!updated) co_return updated.error();
  co_return co_await users_.find(now.id, context);
}

awaitable<Result<User>> UserAdministration::enable(std::string who, CallContext context) {
  UserChanges changes;
  changes.active = true;
  return change(std::move(who), std::move(changes), std::move(context));
}

awaitable<Result<User>> UserAdministration::disable(std::string who, CallContext context) {
  UserChanges changes;
  changes.active = false;
  return change(std::move(who), std::move(changes), std::move(context));
}

awaitable<Result<User>> UserAdministration::remove(std::string who, CallContext context) {
  auto user = co_await find(std::move(who), context);
  if (!user) co_return user.error();
  auto removed = co_await users_.remove(user.value().id, context);
  if (!removed) co_return removed.error();
  co_return user;
}

awaitable<Result<User>> UserAdministration::reset_password(std::string who, std::string password, CallContext context) {
  auto user = co_await find(std::move(who), context);
  if (!user) co_return user.error();
  const auto& owner = user.value();
  if (auto checked = policy_.check(password, {owner.email, owner.first_name, owner.last_name}); !checked) co_return checked.error();
  auto hash = co_await hasher_.hash(std::move(password), context);
  if (!hash) co_return hash.error();
  auto set = co_await users_.set_password_hash(user.value().id, std::move(hash.value()), context);
  if (!set) co_return set.error();
  co_return co_await users_.find(user.value().id, context);
}

awaitable<Result<bool>> ensure_example_user(core::UserStore& users, CallContext context) {
  auto all = co_await users.list(context);
  if (!all) co_return all.error();
  if (!all.value().empty()) co_return false;
  User user;
  user.email = "admin@example.com";
  user.first_name = "Admin";
  user.last_name = "User";
  user.password_hash = "$2a$12$1zGLuYDDNvATh4RA4avbKuheAMpb1svexSzrQm7up.bnpwQHs0jNe";  // "verysecret"
  auto inserted = co_await users.insert(std::move(user), context);
  if (inserted) co_return true;
  if (inserted.error().kind == core::ErrorKind::conflict) co_return false;  // another process was quicker
  co_return inserted.error();
}

}  // namespace flexi::services::authentication
