// SPDX-License-Identifier: Apache-2.0
// The ceiling of durable inserts on this disk: bare SQLite, WAL, synchronous=FULL, the log table's shape, `batch`
// inserts a transaction. Prints inserts per second.
#include <sqlite3.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

void run(sqlite3* db, const std::string& sql) {
  char* message = nullptr;
  if (sqlite3_exec(db, sql.c_str(), nullptr, nullptr, &message) == SQLITE_OK) return;
  std::fprintf(stderr, "%s: %s\n", sql.c_str(), message);
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: sqlite_commit_bench FILE BATCH SECONDS\n");
    return 2;
  }
  const int batch = std::atoi(argv[2]);
  const std::chrono::duration<double> length(std::atof(argv[3]));
  sqlite3* db = nullptr;
  if (sqlite3_open(argv[1], &db) != SQLITE_OK) return 1;
  run(db, "PRAGMA journal_mode=WAL");
  run(db, "PRAGMA synchronous=FULL");
  run(db, "CREATE TABLE logs(seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, name TEXT, data TEXT, created_at INTEGER, updated_at INTEGER)");
  run(db, "CREATE INDEX logs_by_time ON logs(created_at, seq)");
  sqlite3_stmt* insert = nullptr;
  sqlite3_prepare_v2(db, "INSERT INTO logs(id, name, data, created_at, updated_at) VALUES(?1, 'event', ?2, ?3, ?3)", -1, &insert, nullptr);
  const std::string data(100, 'x');
  const auto start = std::chrono::steady_clock::now();
  long inserts = 0;
  while (std::chrono::steady_clock::now() - start < length) {
    run(db, "BEGIN IMMEDIATE");
    for (int i = 0; i < batch; ++i, ++inserts) {
      char id[40];
      std::snprintf(id, sizeof id, "01900000-0000-7000-8000-%012ld", inserts);
      sqlite3_bind_text(insert, 1, id, -1, SQLITE_STATIC);
      sqlite3_bind_text(insert, 2, data.data(), static_cast<int>(data.size()), SQLITE_STATIC);
      sqlite3_bind_int64(insert, 3, inserts);
      if (sqlite3_step(insert) != SQLITE_DONE) return 1;
      sqlite3_reset(insert);
    }
    run(db, "COMMIT");
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%.0f\n", static_cast<double>(inserts) / took.count());
  sqlite3_finalize(insert);
  sqlite3_close(db);
  return 0;
}
