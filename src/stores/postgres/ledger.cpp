// SPDX-License-Identifier: Apache-2.0
#include "stores/postgres/ledger.hpp"

#include "stores/postgres/migrations.hpp"

namespace flexi::stores::postgres {

namespace {

using core::Result;
using runtime::postgres::Statement;

constexpr Statement kLines{"flexi_ledger_lines", "SELECT b.id, l.action, l.way, l.accepted, l.stored, l.duplicates FROM public.flexi_ledger_book b "
                                                 "LEFT JOIN public.flexi_ledger_lines l ON true"};
constexpr Statement kForgetRepeats{"flexi_ledger_forget_repeats",
                                   "DELETE FROM public.flexi_ledger_repeats WHERE (action, id) IN (SELECT action, id FROM public.flexi_ledger_repeats "
                                   "WHERE last_at < now() - interval '90 days' LIMIT 1000 FOR UPDATE SKIP LOCKED)"};

class PostgresLedger final : public core::LedgerSource {
 public:
  explicit PostgresLedger(runtime::postgres::Database& database) : database_(database) {}
  std::string_view source_name() const override { return "postgresql"; }
  core::awaitable<Result<std::vector<core::Account>>> accounts(core::CallContext context) override {
    auto rows = co_await database_.read({&kLines}, std::move(context));
    if (!rows) co_return rows.error();
    std::vector<core::Account> all;
    const auto& r = rows.value();
    for (int i = 0; i < r.size(); ++i) {
      if (all.empty()) all.push_back({.book = std::string(r.text(i, 0)), .lines = {}});
      if (r.is_null(i, 1)) continue;
      core::LedgerLine line{.action = std::string(r.text(i, 1)), .way = std::string(r.text(i, 2))};
      line.accepted = r.integer(i, 3), line.stored = r.integer(i, 4), line.duplicates = r.integer(i, 5);
      all.front().lines.push_back(std::move(line));
    }
    co_return all;
  }

 private:
  runtime::postgres::Database& database_;
};

}  // namespace

std::unique_ptr<core::LedgerSource> open_ledger(runtime::postgres::Database& database) {
  runtime::postgres::Schema schema{.component = "ledger"};
  schema.steps.push_back({1, migration("0002_ledger.sql")});
  schema.upkeep.push_back({&kForgetRepeats});
  database.add(std::move(schema));
  return std::make_unique<PostgresLedger>(database);
}

}  // namespace flexi::stores::postgres
