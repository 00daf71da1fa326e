// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/data_directory.hpp"
#include "apps/transfer/export_file.hpp"
#include "runtime/log_sink.hpp"

namespace flexi::apps::transfer {

/// Where users and log entries are read from or put. Null: not concerned.
struct TransferStores {
  core::UserStore* users = nullptr;
  core::LogStore* logs = nullptr;
};

/// All that is there as it is now, the newest log entries first; what comes meanwhile is left out. Goes on where `file` ends.
/// Memory: the users, and a page of entries
core::awaitable<core::Result<ExportCounts>> write_export(TransferStores from, ExportWriter& file, Progress progress);

struct Imported {
  ExportCounts added, there;             ///< `there`: was here already, the very same
  std::uint64_t conflicts = 0;           ///< their id, or e-mail, is another's here; left out
  std::vector<std::string> conflicting;  ///< the first of them, in words
};

struct ImportOptions {
  std::size_t batch = 512;                           ///< entries that are on their way at once
  std::size_t batch_bytes = std::size_t{8} << 20;    ///< and what they hold
  std::size_t named_conflicts = 20;
};

/// Puts a file's users and log entries where they belong, as they were: ids, times, hashes, traces. What is there already
/// stays, so it may be run again, and goes on so after any failure.
/// @return invalid_argument where the file is damaged: it has been read to its end before anything is written
core::awaitable<core::Result<Imported>> read_export(ExportReader& file, TransferStores to, ImportOptions options, Progress progress,
                                                    runtime::LogSink& log);

}  // namespace flexi::apps::transfer
