// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

namespace flexi::testing {

/// A connection that blocks: what a test does behind the program's back.
class PgConnection {
 public:
  explicit PgConnection(const std::string& dsn) : connection_(PQconnectdb(dsn.c_str()), PQfinish) {
    if (PQstatus(connection_.get()) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(connection_.get()));
    PQsetNoticeProcessor(connection_.get(), [](void*, const char*) {}, nullptr);
  }
  /// @return the first row's first field; "" where there is none
  std::string run(const std::string& sql) {
    std::unique_ptr<PGresult, void (*)(PGresult*)> result(PQexec(connection_.get(), sql.c_str()), PQclear);
    const auto status = PQresultStatus(result.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) throw std::runtime_error(sql + ": " + PQresultErrorMessage(result.get()));
    return PQntuples(result.get()) > 0 && PQnfields(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
  }

 private:
  std::unique_ptr<PGconn, void (*)(PGconn*)> connection_;
};

/// The PostgreSQL of this test run, which tools/run-tests starts: `if (auto why = PostgreSql::missing()) GTEST_SKIP() << *why;`
class PostgreSql {
 public:
  static std::optional<std::string> missing() {
    if (std::getenv("FLEXI_TEST_PG_DSN")) return std::nullopt;
    return "not run: no PostgreSQL; with one: tests/support/postgresql.py run -- ctest …";
  }
  /// Blocks until it answers.
  PostgreSql() : dsn_(std::getenv("FLEXI_TEST_PG_DSN")) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (PQping(dsn_.c_str()) != PQPING_OK) {
      if (std::chrono::steady_clock::now() > until) throw std::runtime_error("no PostgreSQL answers");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  /// `more` wins over what is there: "dbname=x sslmode=require".
  std::string dsn(const std::string& more = "") const { return dsn_ + " " + more; }

 private:
  std::string dsn_;
};

/// A database of one test's own, gone with it.
class PgDatabase {
 public:
  PgDatabase() : name_("test_" + std::to_string(::getpid()) + "_" + std::to_string(++count_)) {
    PgConnection(server_.dsn()).run("CREATE DATABASE " + name_ + " TEMPLATE template0");
  }
  ~PgDatabase() { PgConnection(server_.dsn()).run("DROP DATABASE IF EXISTS " + name_ + " WITH (FORCE)"); }
  std::string dsn(const std::string& more = "") const { return server_.dsn("dbname=" + name_ + " " + more); }
  const std::string& name() const { return name_; }
  const PostgreSql& server() const { return server_; }
  std::string run(const std::string& sql) const { return PgConnection(dsn()).run(sql); }

 private:
  static inline int count_ = 0;
  PostgreSql server_;
  std::string name_;
};

}  // namespace flexi::testing
