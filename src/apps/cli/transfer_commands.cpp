// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/transfer_commands.hpp"

#include <unistd.h>

#include <iostream>

#include "apps/cli/client_commands.hpp"
#include "apps/cli/progress.hpp"
#include "apps/transfer/places.hpp"

namespace flexi::apps::cli {

using core::Result;
using namespace transfer;

namespace {

Parts parts_of(const std::string& what) { return {.users = what != "logs", .logs = what != "users"}; }

std::string counted(const ExportCounts& counts, Parts parts) {
  std::string text;
  if (parts.users) text = std::to_string(counts.users) + " users";
  if (parts.logs) text += (text.empty() ? "" : " and ") + std::to_string(counts.logs) + " log entries";
  return text;
}

core::awaitable<void> write_into(TransferStores stores, ExportWriter& file, Progress progress, std::optional<Result<ExportCounts>>& result) {
  result.emplace(co_await write_export(stores, file, std::move(progress)));
}

core::awaitable<void> read_into(ExportReader& file, TransferStores stores, Progress progress, runtime::LogSink& log,
                                std::optional<Result<Imported>>& result) {
  result.emplace(co_await read_export(file, stores, {}, std::move(progress), log));
}

Result<void> run(const Settings& settings, const ExportOptions& options) {
  const auto parts = parts_of(options.what);
  FLEXI_TRY(const auto places, find_places(settings, options.from, parts, "--from"));
  FLEXI_TRY(auto open, OpenPlaces::open(places, OpenPlaces::Missing::refuse));
  FLEXI_TRY(auto file, ExportWriter::open(options.file, {options.what, shown(places)}));
  if (file->state().begun) std::cerr << "going on behind " << counted(file->state().counts, parts) << "\n";
  std::optional<Result<ExportCounts>> result;
  {
    const ProgressLine line;
    open->process().shards.run(write_into(open->stores(), *file, line.progress(), result));
  }
  if (!*result) {
    std::cerr << "what is done is kept in " << options.file << ".partial: the same command goes on from there\n";
    return result->error();
  }
  std::cout << "exported " << counted(result->value(), parts) << " to " << options.file << "\n";
  if (parts.users) std::cerr << "it holds password hashes: keep it like the database\n";
  return core::ok();
}

Result<void> run(const Settings& settings, const ImportOptions& options) {
  FLEXI_TRY(auto file, ExportReader::open(options.file));
  auto parts = parts_of(file->header().what);
  if (!options.only.empty()) {
    const auto only = parts_of(options.only);
    if ((only.users && !parts.users) || (only.logs && !parts.logs))
      return core::invalid_argument(options.file + " holds no " + options.only + ", only " + file->header().what);
    parts = only;
  }
  FLEXI_TRY(const auto places, find_places(settings, options.to, parts, "--to"));
  FLEXI_TRY(auto open, OpenPlaces::open(places, OpenPlaces::Missing::make));
  std::optional<Result<Imported>> result;
  {
    const ProgressLine line;
    open->process().shards.run(read_into(*file, open->stores(), line.progress(), open->process().log, result));
  }
  if (!*result) {
    if (result->error().kind != core::ErrorKind::invalid_argument) std::cerr << "what is done stays: the same command goes on from there\n";
    return result->error();
  }
  const auto& done = result->value();
  std::cout << "imported " << counted(done.added, parts) << " into " << shown(places) << "; there already: " << counted(done.there, parts) << "\n";
  for (auto& conflict : done.conflicting) std::cerr << conflict << "\n";
  if (done.conflicts > 0)
    return core::conflict(std::to_string(done.conflicts) + " of the file's are left out: what is there under their id or e-mail is another's");
  return core::ok();
}

int ended(const Result<void>& result) {
  if (result) return exit_ok;
  std::cerr << "flexiconnect: " << result.error().message << (result.error().detail.empty() ? "" : " (" + result.error().detail + ")") << "\n";
  return exit_refused;
}

}  // namespace

int export_data(const Settings& settings, const ExportOptions& options) { return ended(run(settings, options)); }
int import_data(const Settings& settings, const ImportOptions& options) { return ended(run(settings, options)); }

}  // namespace flexi::apps::cli
