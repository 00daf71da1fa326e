// SPDX-License-Identifier: Apache-2.0
#include "core/user_store.hpp"

namespace flexi::core {

awaitable<Result<void>> UserStore::replace_password_hash(std::int64_t id, std::string expected, std::string hash, CallContext context) {
  auto user = co_await find(id, context);
  if (!user) co_return user.error();
  if (user.value().password_hash != expected) co_return conflict("the password has been changed meanwhile");
  co_return co_await set_password_hash(id, std::move(hash), std::move(context));
}

}  // namespace flexi::core
