// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <stdexcept>

#include "runtime/shards.hpp"
#include "stores/sqlite/log_store.hpp"
#include "stores/sqlite/user_store.hpp"

namespace flexi::stores::sqlite {

/// A database in a folder of its own, with both stores, for tests.
class StoreFixture {
  struct Folder {
    std::filesystem::path path;
    Folder() {
      std::string name = (std::filesystem::temp_directory_path() / "flexi-stores-XXXXXX").string();
      if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
      path = name;
    }
    ~Folder() { std::filesystem::remove_all(path); }
  } folder_;

 public:
  runtime::Metrics metrics;
  runtime::Shards shards{2};
  LogStoreOptions log_options{};
  runtime::sqlite::DatabaseOptions database_options{.path = (folder_.path / "test.db").string()};

  StoreFixture() = default;
  void open() {
    auto opened = runtime::sqlite::Database::open(database_options, runtime::LogSink::none(), metrics);
    if (!opened) throw std::runtime_error(opened.error().message);
    database_ = std::move(opened.value());
    users_ = std::move(open_user_store(*database_).value());
    logs_ = std::move(open_log_store(*database_, log_options).value());
  }
  void close() {
    logs_.reset();
    users_.reset();
    database_.reset();
  }

  runtime::sqlite::Database& database() { return *database_; }
  core::UserStore& users() { return *users_; }
  core::LogStore& logs() { return *logs_; }

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
  std::unique_ptr<core::LogStore> logs_;
};

}  // namespace flexi::stores::sqlite
