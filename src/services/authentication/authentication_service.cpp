// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/authentication_service.hpp"

#include <string.h>

#include <algorithm>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include "runtime/json.hpp"
#include "services/authentication/account_rules.hpp"

namespace flexi::services::authentication {

namespace asio = boost::asio;
using core::awaitable, core::CallContext, core::Reply, core::Result;

namespace {

constexpr int kMaxRenewals = 16;
constexpr std::chrono::seconds kRenewalTimeout{60};

awaitable<void> wait_until(CallContext::Clock::time_point time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

std::string folded(std::string_view text) {
  std::string out(text);
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

runtime::Metrics::Counter login_counter(runtime::Metrics& metrics, const char* result) {
  return metrics.counter("flexi_logins_total", "Logins by what became of them; locked: refused because of earlier failures", {{"result", result}});
}

}  // namespace

AuthenticationService::AuthenticationService(AuthenticationParts parts, AuthenticationOptions options)
    : parts_(std::move(parts)), options_(std::move(options)), user_actions_(UserAdministration(parts_.users, parts_.hasher, parts_.policy)),
      lockout_(options_.lockout, parts_.metrics, parts_.now), succeeded_(login_counter(parts_.metrics, "succeeded")),
      failed_(login_counter(parts_.metrics, "failed")), locked_(login_counter(parts_.metrics, "locked")),
      renewed_(parts_.metrics.counter("flexi_password_renewals_total", "Stored hashes that a login replaced by one of the configured algorithm and cost")),
      scope_(parts_.executor, "password renewal", parts_.log) {}

awaitable<Result<Reply>> AuthenticationService::handle(core::Request request, CallContext context) {
  if (request.action == core::actions::kAuth) {
    auto* credentials = std::get_if<core::Credentials>(&request.payload);
    if (!credentials) co_return core::invalid_argument("auth must hold email and password");
    co_return co_await log_in(std::move(*credentials), std::move(context));
  }
  if (request.action == core::actions::kMeGet) {
    auto* params = std::get_if<core::Json>(&request.payload);
    if (!params) co_return core::invalid_argument("me.get takes a JSON object with the field token");
    co_return co_await whose(std::move(*params), std::move(context));
  }
  co_return co_await user_actions_.handle(std::move(request), std::move(context));
}

awaitable<Result<Reply>> AuthenticationService::log_in(core::Credentials credentials, CallContext context) {
  if (auto checked = check_login(credentials.email, credentials.password); !checked) co_return checked.error();
  const bool empty = credentials.password.empty();
  auto user = co_await parts_.users.find_by_email(credentials.email, context);
  if (!user && user.error().kind != core::ErrorKind::not_found) co_return user.error();
  // The account's own spelling of its e-mail: another is no other account to guess at.
  const auto account = folded(user ? user.value().email : credentials.email);
  auto attempt = lockout_.begin(account, context.client);
  std::string hash = user ? user.value().password_hash : std::string();
  // Decided before the check, which is made in any case.
  const char* refusal = attempt.refused() ? "locked out" : !user ? "unknown user" : !user.value().active ? "inactive user" : empty ? "empty password" : nullptr;
  const bool outdated = !refusal && !parts_.hasher.is_current(hash);
  std::string old_hash = outdated ? hash : std::string(), password = outdated ? credentials.password : std::string();
  auto matches = co_await parts_.hasher.verify(std::move(credentials.password), std::move(hash), context);
  if (!matches) co_return matches.error();
  if (!refusal && !matches.value()) refusal = "wrong password";
  if (refusal) {
    note_failure(attempt, user ? account : std::string(), context.client);
    ::explicit_bzero(password.data(), password.size());
    co_return core::unauthenticated("invalid credentials", refusal);
  }
  attempt.succeeded();
  succeeded_.add();
  if (outdated) renew_behind(user.value().id, std::move(password), std::move(old_hash));
  Reply reply;
  reply.message = "Logged in user " + user.value().email;
  reply.data = to_json(user.value());
  add_token(reply, user.value());
  if (parts_.logger) co_await leave_entry(std::move(user.value().email), std::move(context));
  co_return reply;
}

void AuthenticationService::note_failure(Lockout::Attempt& attempt, const std::string& known, const std::string& client) {
  if (attempt.refused()) return locked_.add();
  failed_.add();
  const auto delay = attempt.failed();
  if (!delay) return;
  // What is nobody's e-mail is not repeated: it may be a password in the wrong field.
  parts_.log.warning("failed logins: the next must wait", {{"email", known}, {"from", client}, {"seconds", static_cast<double>(delay->count()) / 1000}});
}

void AuthenticationService::add_token(Reply& reply, const core::User& user) {
  if (!parts_.tokens) return;
  auto token = parts_.tokens->issue(user, std::chrono::system_clock::now());
  if (token) reply.token = std::move(token.value());
  else parts_.log.error("a login got no token", {{"error", token.error().detail}});
}

bool AuthenticationService::is_administrator(const core::User& user) const {
  return std::any_of(options_.administrators.begin(), options_.administrators.end(), [&](auto& email) { return folded(email) == folded(user.email); });
}

awaitable<Result<Reply>> AuthenticationService::whose(core::Json params, CallContext context) {
  auto object = runtime::JsonObject::parse(params.text);
  if (!object) co_return object.error();
  auto token = object.value().string("token");
  if (!token) co_return token.error();
  if (auto known = object.value().nothing_unknown(); !known) co_return known.error();
  if (!token.value()) co_return core::unauthenticated("a login's token is required: give the header Authorization: Bearer <token>");
  if (!parts_.tokens) co_return core::unauthenticated("no token is valid here: authentication.token_key_file is not set");
  auto id = parts_.tokens->check(*token.value(), std::chrono::system_clock::now());
  if (!id) co_return id.error();
  auto user = co_await parts_.users.find(id.value(), std::move(context));
  if (!user && user.error().kind != core::ErrorKind::not_found) co_return user.error();
  if (!user || !user.value().active) co_return core::unauthenticated("the token is not valid, or has expired: log in again", user ? "inactive user" : "no such user");
  auto data = to_json(user.value());
  data.pop_back();
  data += is_administrator(user.value()) ? ",\"administrator\":true}" : ",\"administrator\":false}";
  Reply reply;
  reply.message = "ok";
  reply.data = std::move(data);
  co_return reply;
}

void AuthenticationService::renew_behind(std::int64_t id, std::string password, std::string old_hash) {
  // One more than this waits for the user's next login.
  if (renewals_.fetch_add(1) >= kMaxRenewals) {
    renewals_.fetch_sub(1);
    ::explicit_bzero(password.data(), password.size());
    return;
  }
  asio::post(parts_.executor, [this, id, password = std::move(password), old_hash = std::move(old_hash)]() mutable {
    if (stopping_) {
      renewals_.fetch_sub(1);
      ::explicit_bzero(password.data(), password.size());
      return;
    }
    scope_.spawn(renew(id, std::move(password), std::move(old_hash)));
  });
}

awaitable<void> AuthenticationService::renew(std::int64_t id, std::string password, std::string old_hash) {
  const auto context = CallContext::with_timeout(kRenewalTimeout);
  auto hash = co_await parts_.hasher.hash(std::move(password), context);
  std::optional<core::Error> failure;
  if (!hash) {
    failure = hash.error();
  } else if (auto set = co_await parts_.users.replace_password_hash(id, std::move(old_hash), std::move(hash.value()), context); !set) {
    failure = set.error();
  }
  renewals_.fetch_sub(1);
  if (!failure) renewed_.add();
  else if (failure->kind != core::ErrorKind::conflict && failure->kind != core::ErrorKind::not_found)
    parts_.log.warning("a password's hash was not renewed; its next login tries again", {{"user", id}, {"error", failure->message}, {"detail", failure->detail}});
}

awaitable<void> AuthenticationService::stop() {
  stopping_ = true;
  scope_.cancel();
  co_await scope_.join();
}

awaitable<void> AuthenticationService::leave_entry(std::string email, CallContext context) {
  using namespace asio::experimental::awaitable_operators;
  // Half of what is left at most, so that a logger that hangs can't take the login's answer with it.
  CallContext entry_context = context.limited_to(std::min(options_.entry_timeout, context.remaining() / 2));
  entry_context.caller.clear();
  entry_context.client.clear();
  // An entry of the login's trace, but a message of its own: it begins here.
  entry_context.hops.clear();
  entry_context.add_hop("authentication");
  core::Request entry;
  entry.id = core::MessageId::generate();
  entry.action = core::actions::kLog;
  entry.payload = core::LogEntry{"authentication", email + " logged in"};
  entry.accepted_at = std::chrono::system_clock::now();
  std::string why;
  try {
    auto stored = co_await (parts_.logger->handle(std::move(entry), entry_context) || wait_until(entry_context.deadline));
    if (stored.index() == 1) {
      why = "not answered in time";
    } else if (auto& result = std::get<0>(stored); !result) {
      why = result.error().message + (result.error().detail.empty() ? "" : ": " + result.error().detail);
    }
  } catch (const std::exception& e) {  // a bug of the logger's, or the login itself was cancelled
    why = e.what();
  }
  if (!why.empty()) parts_.log.warning("a login's log entry was not stored", {{"email", email}, {"error", why}});
}

}  // namespace flexi::services::authentication
