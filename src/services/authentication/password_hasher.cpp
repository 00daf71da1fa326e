// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/password_hasher.hpp"

#include <crypt.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

namespace flexi::services::authentication {

namespace {

constexpr std::int64_t kMinCost = 4, kMaxCost = 16;
constexpr std::size_t kHashBytes = 60, kPrefixBytes = 7;  // "$2b$12$", 22 of salt, 31 of digest

/// Hashing uses every cycle it gets for a quarter of a second: other threads of the process go first.
void give_way_once() {
  thread_local bool done = false;
  if (done) return;
  done = true;
  constexpr int kNice = 10;
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
}

std::string cost_text(std::int64_t cost) { return {static_cast<char>('0' + cost / 10), static_cast<char>('0' + cost % 10)}; }

/// @return empty where crypt(3) refuses
std::string bcrypt(const std::string& password, const std::string& setting) {
  auto data = std::make_unique<crypt_data>();  // 32 KiB
  const char* result = ::crypt_r(password.c_str(), setting.c_str(), data.get());
  std::string hash = result && result[0] == '$' ? result : "";
  ::explicit_bzero(data.get(), sizeof *data);
  return hash;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

core::Result<std::string> new_setting(std::int64_t cost) {
  const std::unique_ptr<char, decltype(&std::free)> setting(::crypt_gensalt_ra("$2b$", static_cast<unsigned long>(cost), nullptr, 0), &std::free);
  if (!setting) return core::internal("internal error", "crypt_gensalt_ra failed");
  return std::string(setting.get());
}

runtime::BlockingPoolOptions pool_options(const PasswordHasherOptions& options) {
  const unsigned cores = std::thread::hardware_concurrency();
  const unsigned threads = options.threads > 0 ? static_cast<unsigned>(options.threads) : std::max(2u, cores) - 1;
  return {.name = "password checking", .threads = threads, .queue_limit = static_cast<std::size_t>(options.queue_limit)};
}

}  // namespace

void PasswordHasherOptions::describe(runtime::OptionVisitor& visitor) {
  visitor.field("cost", cost, "bcrypt cost of new passwords, 4 to 16; each step doubles the time of a login and of every guess");
  visitor.field("threads", threads, "Passwords that are checked at once; 0: one less than there are cores, at least one");
  visitor.field("queue_limit", queue_limit, "Logins that may wait to be checked; beyond it the answer is 429");
}

runtime::Problems PasswordHasherOptions::validate() const {
  runtime::Problems problems;
  if (cost < kMinCost || cost > kMaxCost) problems.push_back({"cost", "must be 4 to 16"});
  if (threads < 0 || threads > 64) problems.push_back({"threads", "must be 0 (chosen by the number of cores) to 64"});
  if (queue_limit < 1 || queue_limit > 100000) problems.push_back({"queue_limit", "must be 1 to 100000"});
  return problems;
}

bool is_bcrypt(std::string_view hash) {
  if (hash.size() != kHashBytes || (!hash.starts_with("$2a$") && !hash.starts_with("$2b$") && !hash.starts_with("$2y$"))) return false;
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!digit(hash[4]) || !digit(hash[5]) || hash[6] != '$') return false;
  const int cost = (hash[4] - '0') * 10 + (hash[5] - '0');
  if (cost < kMinCost || cost > kMaxCost) return false;
  return std::all_of(hash.begin() + kPrefixBytes, hash.end(), [&](char c) {
    return digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '/';
  });
}

PasswordHasher::PasswordHasher(PasswordHasherOptions options, runtime::Metrics& metrics)
    // Made by hand: computing a real one would hold up the start by a whole login's work.
    : options_(options), dummy_("$2b$" + cost_text(options.cost) + "$abcdefghijklmnopqrstuu" + std::string(31, '.')),
      checks_(metrics.counter("flexi_password_checks_total", "Passwords that were compared with a hash, successfully or not")),
      pool_(pool_options(options)) {}

core::awaitable<core::Result<std::string>> PasswordHasher::hash(std::string password, core::CallContext context) {
  auto job = [password = std::move(password), cost = options_.cost]() mutable -> core::Result<std::string> {
    give_way_once();
    FLEXI_TRY(auto setting, new_setting(cost));
    auto hash = bcrypt(password, setting);
    ::explicit_bzero(password.data(), password.size());
    if (!is_bcrypt(hash)) return core::internal("internal error", "crypt_r refused its own salt");
    return hash;
  };
  return pool_.run(std::move(job), std::move(context));
}

core::awaitable<core::Result<bool>> PasswordHasher::verify(std::string password, std::string hash, core::CallContext context) {
  auto job = [password = std::move(password), hash = std::move(hash), dummy = dummy_, checks = checks_]() mutable -> core::Result<bool> {
    give_way_once();
    const bool usable = is_bcrypt(hash);
    auto computed = bcrypt(password, usable ? hash : dummy);
    // Where crypt(3) refuses a hash that looked well, it has done no work: do it now.
    if (computed.empty()) (void)bcrypt(password, dummy);
    ::explicit_bzero(password.data(), password.size());
    checks.add();
    return usable && equal_in_constant_time(computed, hash);
  };
  return pool_.run(std::move(job), std::move(context));
}

}  // namespace flexi::services::authentication
