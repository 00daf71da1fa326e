// SPDX-License-Identifier: Apache-2.0
#include "runtime/sqlite/connection.hpp"

#include <sqlite3.h>

namespace flexi::runtime::sqlite {

Statement::Statement(Connection& connection, sqlite3_stmt* statement, core::Result<void> prepared)
    : connection_(&connection), statement_(statement) {
  if (!prepared) broken_ = prepared.error();
}

Statement::Statement(Statement&& other) noexcept
    : connection_(other.connection_), statement_(other.statement_), broken_(std::move(other.broken_)) {
  other.statement_ = nullptr;
}

Statement::~Statement() { reset(); }

void Statement::reset() {
  if (!statement_) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

Statement& Statement::bind(int index, std::int64_t value) {
  if (statement_) sqlite3_bind_int64(statement_, index, value);
  return *this;
}

Statement& Statement::bind(int index, std::string_view value) {
  // An empty view may have a null pointer, which SQLite would bind as NULL.
  if (statement_) sqlite3_bind_text64(statement_, index, value.data() ? value.data() : "", value.size(), SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}

Statement& Statement::bind_blob(int index, std::string_view value) {
  if (statement_) sqlite3_bind_blob64(statement_, index, value.data() ? value.data() : "", value.size(), SQLITE_STATIC);
  return *this;
}

Statement& Statement::bind_null(int index) {
  if (statement_) sqlite3_bind_null(statement_, index);
  return *this;
}

core::Result<bool> Statement::step() {
  if (broken_) return *broken_;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return connection_->error(code, sqlite3_sql(statement_));
}

core::Result<void> Statement::run() {
  FLEXI_TRY(auto row, step());
  (void)row;
  return core::ok();
}

std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string_view Statement::text_view(int column) const {
  // The pointer first: it may convert the value, which changes the byte count.
  auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  return {data ? data : "", static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

std::string Statement::text(int column) const { return std::string(text_view(column)); }

bool Statement::is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

core::Result<std::unique_ptr<Connection>> Connection::open(const std::string& path, Mode mode) {
  std::unique_ptr<Connection> connection(new Connection);
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  flags |= mode == Mode::read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  if (mode == Mode::read_write_create) flags |= SQLITE_OPEN_CREATE;
  const int code = sqlite3_open_v2(path.c_str(), &connection->db_, flags, nullptr);
  if (code != SQLITE_OK) return core::unavailable("database " + path + " can't be opened: " + sqlite3_errstr(code));
  sqlite3_busy_timeout(connection->db_, 5000);
  return connection;
}

Connection::~Connection() {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close_v2(db_);
}

Statement Connection::use(std::string_view sql) {
  auto it = statements_.find(sql);
  if (it == statements_.end()) {
    sqlite3_stmt* statement = nullptr;
    const int code = sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (code != SQLITE_OK) return Statement(*this, nullptr, error(code, sql));
    it = statements_.emplace(std::string(sql), statement).first;
  }
  return Statement(*this, it->second, core::ok());
}

core::Result<void> Connection::execute(const std::string& sql) {
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return error(code, sql);
  return core::ok();
}

int Connection::changes() const { return sqlite3_changes(db_); }
std::int64_t Connection::last_insert_rowid() const { return sqlite3_last_insert_rowid(db_); }
bool Connection::in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }

core::Error Connection::error(int code, std::string_view doing) {
  std::string detail = std::string(sqlite3_errmsg(db_)) + " (SQLite " + std::to_string(code) + "), in: " + std::string(doing.substr(0, 200));
  switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
      if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY) return core::conflict("it exists already", std::move(detail));
      return core::internal("internal error", std::move(detail));
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY: {
      auto error = core::unavailable("the storage is full or failing, nothing was stored", std::move(detail));
      error.retry_after = std::chrono::seconds(5);
      storage_failure_ = error;
      return error;
    }
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT: {
      const char* file = sqlite3_db_filename(db_, "main");
      auto error = core::unavailable("the database is damaged, or is none: a backup must be restored",
                                     std::string(file ? file : "") + ": " + detail + "; stop the server, move the file away, then: flexiconnect restore BACKUP --data-dir FOLDER");
      storage_failure_ = error;
      return error;
    }
    case SQLITE_BUSY:
    case SQLITE_LOCKED: {
      auto error = core::unavailable("the database is locked by another process", std::move(detail));
      error.retry_after = std::chrono::seconds(1);
      return error;
    }
    default: return core::internal("internal error", std::move(detail));
  }
}

}  // namespace flexi::runtime::sqlite
