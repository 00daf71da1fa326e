// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/result.hpp"

namespace flexi::transports::spool {

/// One spool file, ours as long as this lives: `spool-<n>.db` with an flock on `spool-<n>.lock`, which ends with the process
/// however that ends. The lock is on a file apart, because SQLite's own locks on the database would be lost with ours.
class SpoolFile {
 public:
  SpoolFile(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}
  ~SpoolFile();
  SpoolFile(const SpoolFile&) = delete;
  SpoolFile& operator=(const SpoolFile&) = delete;

  const std::string& path() const { return path_; }
  /// Deletes the database; the lock file stays, so that two processes never lock two files of one name.
  void remove();

 private:
  std::string path_;
  int lock_;
};

/// The folder where the spools of all publishers on one volume lie.
/// Lifetime/threads: any one thread at a time; blocks
class SpoolDirectory {
 public:
  explicit SpoolDirectory(std::string path) : path_(std::move(path)) {}

  /// The first spool that no process has.
  /// @return unavailable with what and why, where the folder is missing or can't be written
  core::Result<std::unique_ptr<SpoolFile>> take() const;
  /// Spools of processes that have died.
  std::vector<std::unique_ptr<SpoolFile>> orphans() const;

 private:
  std::string path_;
};

}  // namespace flexi::transports::spool
