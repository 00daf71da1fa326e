// SPDX-License-Identifier: Apache-2.0
#include "apps/example_user.hpp"

#include <boost/asio/use_awaitable.hpp>

#include "services/authentication/user_administration.hpp"

namespace flexi::apps {

namespace {
constexpr std::chrono::seconds kPause{1};
}

core::awaitable<bool> ExampleUser::try_to_add(core::UserStore& users) {
  auto added = co_await services::authentication::ensure_example_user(users, core::CallContext::with_timeout(std::chrono::seconds(10)));
  if (added && added.value()) log_.info("example user created", {{"email", "admin@example.com"}});
  if (added) co_return true;
  if (core::is_transient(added.error().kind)) co_return false;
  log_.error("the example user can't be created", {{"error", added.error().message}, {"detail", added.error().detail}});
  co_return true;
}

core::awaitable<void> ExampleUser::keep_trying(core::UserStore& users) {
  while (!co_await try_to_add(users)) {
    boost::asio::steady_timer timer(later_.executor(), kPause);
    co_await timer.async_wait(boost::asio::use_awaitable);
  }
}

core::awaitable<void> ExampleUser::add(core::UserStore& users, When when) {
  if (when == When::now && co_await try_to_add(users)) co_return;
  later_.spawn(keep_trying(users));
}

core::awaitable<void> ExampleUser::stop() {
  later_.cancel();
  co_await later_.join();
}

}  // namespace flexi::apps
