// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "core/log_store.hpp"
#include "core/user_store.hpp"

namespace flexi::apps::transfer {

/// The first line of a file.
struct ExportHeader {
  std::string what;  ///< users, logs, all
  std::string from;  ///< where it comes from, for people and to tell one export from another; no secrets
};

struct ExportCounts {
  std::uint64_t users = 0, logs = 0;
  friend bool operator==(const ExportCounts&, const ExportCounts&) = default;
};

/// How far an export is: everything before this is in the file.
struct ExportState {
  bool begun = false;  ///< false: nothing is; true: all users are
  ExportCounts counts;
  std::string cursor;  ///< of the log entries; empty: none is there yet
};

/// Writes users and log entries to a file, one JSON object a line. It has its name only when it is whole: until then it is
/// FILE.partial, and what its last checkpoint covers is kept for the next one who opens it.
/// Lifetime/threads: one thread
class ExportWriter {
 public:
  /// Begins, or goes on where an earlier one ended.
  /// @return conflict where `file` exists, where FILE.partial is of another export, or while another process writes it
  static core::Result<std::unique_ptr<ExportWriter>> open(const std::string& file, const ExportHeader& header);
  virtual ~ExportWriter() = default;

  virtual const ExportState& state() const = 0;
  virtual core::Result<void> add(const core::User& user) = 0;
  virtual core::Result<void> add(const core::LogRecord& record) = 0;
  /// All users, and the entries before `cursor`, have been added.
  virtual core::Result<void> checkpoint(std::string cursor) = 0;
  /// The last line, with counts and a checksum; the file is on the disk when this returns.
  virtual core::Result<void> finish() = 0;
};

/// Reads such a file from its beginning to its end, and checks it on the way: an error names the line.
/// Lifetime/threads: one thread
class ExportReader {
 public:
  using Entry = std::variant<core::User, core::LogRecord>;

  /// @return not_found; invalid_argument for a file that is none of ours, or of a newer program
  static core::Result<std::unique_ptr<ExportReader>> open(const std::string& file);
  virtual ~ExportReader() = default;

  virtual const ExportHeader& header() const = 0;
  /// @return the next; none at the end, where counts and checksum were right; invalid_argument, also where the file was cut short
  virtual core::Result<std::optional<Entry>> next() = 0;
  /// What has been read.
  virtual const ExportCounts& counts() const = 0;
  virtual int percent() const = 0;
  virtual core::Result<void> rewind() = 0;
};

}  // namespace flexi::apps::transfer
