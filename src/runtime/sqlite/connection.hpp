// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/result.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace flexi::runtime::sqlite {

class Connection;

/// A prepared statement in use: bind, step, read columns. Reset when it goes out of scope.
///
///   auto row = connection.use("SELECT name FROM t WHERE id = ?1");
///   row.bind(1, id);
///   FLEXI_TRY(auto found, row.step());   // true: a row is there; false: done
///   if (found) name = row.text(0);
class Statement {
 public:
  Statement(Statement&&) noexcept;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  Statement& bind(int index, std::int64_t value);
  /// Copies nothing: `value` must live until the statement is reset. NUL bytes are data.
  Statement& bind(int index, std::string_view value);
  Statement& bind_blob(int index, std::string_view value);
  Statement& bind_null(int index);

  /// @return whether a row is there; conflict for a violated UNIQUE or PRIMARY KEY; unavailable for a disk that is full
  ///         or fails, a file that is damaged, or locked for too long; internal for anything else
  core::Result<bool> step();
  /// step() for statements that give no rows.
  core::Result<void> run();
  void reset();

  std::int64_t integer(int column) const;
  std::string text(int column) const;
  std::string_view text_view(int column) const;  ///< valid until the next step
  bool is_null(int column) const;

 private:
  friend class Connection;
  Statement(Connection& connection, sqlite3_stmt* statement, core::Result<void> prepared);
  Connection* connection_;
  sqlite3_stmt* statement_;
  std::optional<core::Error> broken_;
};

/// One SQLite connection with its prepared statements.
/// Lifetime/threads: one thread at a time
class Connection {
 public:
  enum class Mode { read_write_create, read_write, read_only };
  static core::Result<std::unique_ptr<Connection>> open(const std::string& path, Mode mode);
  ~Connection();

  /// Prepared once, then kept. `sql` is a literal.
  Statement use(std::string_view sql);
  /// Runs statements whose rows nobody reads.
  core::Result<void> execute(const std::string& sql);
  /// Rows that the last INSERT, UPDATE or DELETE touched.
  int changes() const;
  std::int64_t last_insert_rowid() const;
  /// False once an error has made SQLite roll the transaction back.
  bool in_transaction() const;
  sqlite3* handle() { return db_; }
  /// SQLite's last error on this connection as ours; `doing` goes into the detail.
  core::Error error(int code, std::string_view doing);
  /// The last error by which the disk refused or lost something (full, I/O, damaged) since this was asked before.
  std::optional<core::Error> take_storage_failure() { return std::exchange(storage_failure_, std::nullopt); }

 private:
  Connection() = default;
  sqlite3* db_ = nullptr;
  std::optional<core::Error> storage_failure_;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::unordered_map<std::string, sqlite3_stmt*, Hash, std::equal_to<>> statements_;
};

}  // namespace flexi::runtime::sqlite
