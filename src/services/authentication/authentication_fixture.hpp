// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <stdexcept>

#include "runtime/shards.hpp"
#include "services/authentication/password_hasher.hpp"
#include "services/authentication/password_policy.hpp"
#include "stores/sqlite/user_store.hpp"

namespace flexi::services::authentication {

/// A user store in a folder of its own and a cheap hasher, for tests.
class Fixture {
  struct Folder {
    std::filesystem::path path;
    Folder() {
      std::string name = (std::filesystem::temp_directory_path() / "flexi-auth-XXXXXX").string();
      if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
      path = name;
    }
    ~Folder() { std::filesystem::remove_all(path); }
  } folder_;

 public:
  runtime::Metrics metrics;
  runtime::Shards shards{1};
  PasswordHasher hasher{{.cost = 4, .threads = 1}, metrics};
  PasswordPolicy policy{8};

  Fixture() {
    auto opened = runtime::sqlite::Database::open({.path = (folder_.path / "users.db").string()}, runtime::LogSink::none(), metrics);
    if (!opened) throw std::runtime_error(opened.error().message);
    database_ = std::move(opened.value());
    users_ = std::move(stores::sqlite::open_user_store(*database_).value());
  }

  core::UserStore& users() { return *users_; }
  /// A user with this hash, whatever it is.
  core::User add(std::string email, std::string hash, bool active = true) {
    core::User user;
    user.email = std::move(email);
    user.password_hash = std::move(hash);
    user.active = active;
    return wait(users().insert(std::move(user), core::CallContext{})).value();
  }
  std::string hash(std::string password) { return wait(hasher.hash(std::move(password), core::CallContext{})).value(); }
  double checks() { return metrics.counter("flexi_password_checks_total", "").value(); }

  template <class T>
  T wait(core::awaitable<T> work) {
    std::optional<T> result;
    shards.run([](core::awaitable<T> inner, std::optional<T>& out) -> core::awaitable<void> {
      out.emplace(co_await std::move(inner));
    }(std::move(work), result));
    return std::move(*result);
  }

 private:
  std::unique_ptr<runtime::sqlite::Database> database_;
  std::unique_ptr<core::UserStore> users_;
};

}  // namespace flexi::services::authentication
