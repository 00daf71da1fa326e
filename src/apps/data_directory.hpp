// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::apps {

/// The folder that holds everything the embedded default stores: `flexiconnect.db` and its lock.
/// Lifetime/threads: the lock is held as long as the object lives
class DataDirectory {
 public:
  /// Creates the folder (mode 0700) where it is missing and takes its lock: one server a folder.
  /// @return conflict while another process serves from it; unavailable where it can't be written
  static core::Result<DataDirectory> open(const std::string& path);
  /// As open(), without the lock: for tools beside a running server.
  /// @return not_found where there is no database yet and `create` is false
  static core::Result<DataDirectory> open_shared(const std::string& path, bool create);

  DataDirectory(DataDirectory&& other) noexcept;
  DataDirectory& operator=(DataDirectory&&) = delete;
  ~DataDirectory();

  std::string database_file() const { return path_ + "/flexiconnect.db"; }
  /// The key of logins' tokens, where the settings name none.
  std::string token_key_file() const { return path_ + "/token.key"; }

 private:
  DataDirectory(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}
  std::string path_;
  int lock_ = -1;
};

/// Told how far a long command is: what it does, and how much of that is done; none: nobody can say.
/// Threads: called from another thread than the command's, one call at a time
using Progress = std::function<void(std::string_view what, std::optional<int> percent)>;

/// A copy of everything in the data folder, as of now, while a server uses it or not.
/// @param file must not exist
core::Result<void> backup(const std::string& data_directory, const std::string& file, const Progress& progress = {});

/// Makes a data folder from a backup.
/// @return conflict where the folder holds data already or a server runs on it; invalid_argument for a file that is
///         not a backup or is damaged
core::Result<void> restore(const std::string& data_directory, const std::string& file, const Progress& progress = {});

}  // namespace flexi::apps
