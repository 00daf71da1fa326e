// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/password_hasher.hpp"

#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "services/authentication/bcrypt.hpp"

namespace flexi::services::authentication {

class PasswordHasher::Memory {
 public:
  explicit Memory(std::int64_t kib) : kib_(kib), left_(kib) {}

  /// What one hash takes, while it runs.
  class Share {
   public:
    Share(Memory& memory, std::int64_t kib) : memory_(memory), kib_(kib) {
      std::unique_lock lock(memory_.mutex_);
      memory_.freed_.wait(lock, [this] { return memory_.left_ >= kib_; });
      memory_.left_ -= kib_;
    }
    ~Share() {
      {
        std::lock_guard lock(memory_.mutex_);
        memory_.left_ += kib_;
      }
      memory_.freed_.notify_all();
    }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

   private:
    Memory& memory_;
    const std::int64_t kib_;
  };

  bool could_hold(const Argon2Cost& cost) const { return cost.memory_kib <= kib_; }

 private:
  const std::int64_t kib_;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::int64_t left_;
};

namespace {

/// Hashing uses every cycle it gets for a quarter of a second: other threads of the process go first.
void give_way_once() {
  thread_local bool done = false;
  if (done) return;
  done = true;
  constexpr int kNice = 10;
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

/// A password that is overwritten when its job has gone, run or not.
struct Password {
  std::string text;
  explicit Password(std::string t) : text(std::move(t)) {}
  Password(Password&&) = default;
  ~Password() { ::explicit_bzero(text.data(), text.size()); }
};

runtime::BlockingPoolOptions pool_options(const PasswordHasherOptions& options) {
  std::int64_t threads = options.threads;
  if (threads == 0) {
    threads = std::max(2u, std::thread::hardware_concurrency()) - 1;
    if (options.uses_argon2()) threads = std::clamp<std::int64_t>(threads, 1, std::max<std::int64_t>(options.max_memory_kib / options.argon2_memory_kib, 1));
  }
  return {.name = "password checking", .threads = static_cast<unsigned>(threads), .queue_limit = static_cast<std::size_t>(options.queue_limit)};
}

void check(runtime::Problems& problems, const char* path, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) problems.push_back({path, "must be " + std::to_string(least) + " to " + std::to_string(most)});
}

}  // namespace

void PasswordHasherOptions::describe(runtime::OptionVisitor& visitor) {
  visitor.field("algorithm", algorithm, "Of new passwords: bcrypt, or argon2id (longer than the contract's column; see docs/operations.md); both are verified");
  visitor.field("cost", cost, "bcrypt cost of new passwords, 4 to 16; each step doubles the time of a login and of every guess");
  visitor.field("argon2_memory_kib", argon2_memory_kib, "Memory that one Argon2id takes, in KiB");
  visitor.field("argon2_iterations", argon2_iterations, "Passes of one Argon2id over its memory");
  visitor.field("argon2_lanes", argon2_lanes, "Lanes of one Argon2id; they are computed one after the other");
  visitor.field("max_memory_kib", max_memory_kib, "Memory that all passwords hashed at once may take together, in KiB");
  visitor.field("threads", threads, "Passwords that are checked at once; 0: one less than there are cores, at least one");
  visitor.field("queue_limit", queue_limit, "Logins that may wait to be checked; beyond it the answer is 429");
}

runtime::Problems PasswordHasherOptions::validate() const {
  runtime::Problems problems;
  if (algorithm != "bcrypt" && algorithm != "argon2id") problems.push_back({"algorithm", "must be bcrypt or argon2id"});
  check(problems, "cost", cost, kMinBcryptCost, kMaxBcryptCost);
  check(problems, "argon2_memory_kib", argon2_memory_kib, kMinArgon2Kib, kMaxArgon2Kib);
  check(problems, "argon2_iterations", argon2_iterations, 1, kMaxArgon2Iterations);
  check(problems, "argon2_lanes", argon2_lanes, 1, kMaxArgon2Lanes);
  check(problems, "max_memory_kib", max_memory_kib, kMinArgon2Kib, std::int64_t(1) << 30);
  if (threads < 0 || threads > 64) problems.push_back({"threads", "must be 0 (chosen by the number of cores) to 64"});
  check(problems, "queue_limit", queue_limit, 1, 100000);
  if (!problems.empty() || !uses_argon2()) return problems;
  if (!argon2_cost().is_bearable()) problems.push_back({"argon2_iterations", "times argon2_memory_kib is more than a login may take: at most 8388608 together"});
  const auto wanted = std::max<std::int64_t>(threads, 1) * argon2_memory_kib;
  if (wanted > max_memory_kib)
    problems.push_back({"max_memory_kib", "must be at least threads times argon2_memory_kib (" + std::to_string(wanted) + "), or hashes would wait for memory"});
  return problems;
}

PasswordHasher::PasswordHasher(PasswordHasherOptions options, runtime::Metrics& metrics)
    : options_(std::move(options)), memory_(std::make_unique<Memory>(options_.max_memory_kib)),
      checks_(metrics.counter("flexi_password_checks_total", "Passwords that were compared with a hash, successfully or not")),
      pool_(pool_options(options_)) {}

PasswordHasher::~PasswordHasher() = default;

bool PasswordHasher::is_current(std::string_view hash) const {
  if (!options_.uses_argon2()) return is_bcrypt(hash) && bcrypt_cost(hash) == options_.cost;
  const auto parsed = Argon2Hash::parse(hash);
  return parsed && parsed->cost == options_.argon2_cost();
}

core::awaitable<core::Result<std::string>> PasswordHasher::hash(std::string password, core::CallContext context) {
  auto job = [this, password = Password(std::move(password))]() -> core::Result<std::string> {
    give_way_once();
    if (!options_.uses_argon2()) return new_bcrypt(password.text, options_.cost);
    const Memory::Share share(*memory_, options_.argon2_memory_kib);
    FLEXI_TRY(auto hash, new_argon2id(password.text, options_.argon2_cost()));
    return hash.to_string();
  };
  return pool_.run(std::move(job), std::move(context));
}

core::awaitable<core::Result<bool>> PasswordHasher::verify(std::string password, std::string hash, core::CallContext context) {
  auto job = [this, password = Password(std::move(password)), hash = std::move(hash)]() -> core::Result<bool> {
    give_way_once();
    checks_.add();
    auto argon2 = Argon2Hash::parse(hash);
    if (argon2 && !memory_->could_hold(argon2->cost)) argon2.reset();
    const bool is_argon2 = argon2.has_value(), usable = is_argon2 || is_bcrypt(hash);
    if (is_argon2 || (!usable && options_.uses_argon2())) {
      if (!is_argon2) argon2 = Argon2Hash::of_nobody(options_.argon2_cost());
      const Memory::Share share(*memory_, argon2->cost.memory_kib);
      FLEXI_TRY(auto computed, argon2id(password.text, argon2->salt, argon2->cost, argon2->digest.size()));
      return equal_in_constant_time(computed, argon2->digest) && usable;
    }
    const auto dummy = nobodys_bcrypt(options_.cost);
    const auto computed = bcrypt(password.text, usable ? hash : dummy);
    // Where crypt(3) refuses a hash that looked well, it has done no work: do it now.
    if (computed.empty()) (void)bcrypt(password.text, dummy);
    return equal_in_constant_time(computed, hash) && usable;
  };
  return pool_.run(std::move(job), std::move(context));
}

}  // namespace flexi::services::authentication
