// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/user_administration.hpp"

#include <charconv>

#include "services/authentication/account_rules.hpp"

namespace flexi::services::authentication {

using core::awaitable, core::CallContext, core::Result, core::User;

namespace {

Result<void> check_new_user(const NewUser& user) {
  FLEXI_TRY(check_email(user.email));
  FLEXI_TRY(check_person_name("first_name", user.first_name));
  FLEXI_TRY(check_person_name("last_name", user.last_name));
  return check_password(user.password);
}

}  // namespace

awaitable<Result<User>> UserAdministration::add(NewUser user, CallContext context) {
  if (auto checked = check_new_user(user); !checked) co_return checked.error();
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

awaitable<Result<User>> UserAdministration::set_active(std::string who, bool active, CallContext context) {
  auto user = co_await find(std::move(who), context);
  if (!user) co_return user.error();
  user.value().active = active;
  auto updated = co_await users_.update(user.value(), context);
  if (!updated) co_return updated.error();
  co_return co_await users_.find(user.value().id, context);
}

awaitable<Result<User>> UserAdministration::enable(std::string who, CallContext context) { return set_active(std::move(who), true, std::move(context)); }
awaitable<Result<User>> UserAdministration::disable(std::string who, CallContext context) { return set_active(std::move(who), false, std::move(context)); }

awaitable<Result<User>> UserAdministration::remove(std::string who, CallContext context) {
  auto user = co_await find(std::move(who), context);
  if (!user) co_return user.error();
  auto removed = co_await users_.remove(user.value().id, context);
  if (!removed) co_return removed.error();
  co_return user;
}

awaitable<Result<User>> UserAdministration::reset_password(std::string who, std::string password, CallContext context) {
  if (auto checked = check_password(password); !checked) co_return checked.error();
  auto user = co_await find(std::move(who), context);
  if (!user) co_return user.error();
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
