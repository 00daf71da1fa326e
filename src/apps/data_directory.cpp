// SPDX-License-Identifier: Apache-2.0
#include "apps/data_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>

#include "runtime/sqlite/connection.hpp"

namespace flexi::apps {

namespace fs = std::filesystem;
using runtime::sqlite::Connection;

namespace {

core::Error cant_use(const std::string& path, int code) {
  return core::unavailable("can't use the data folder " + path + ": " + std::strerror(code) + " (set FLEXI_DATA_DIR to a folder that can be written)");
}

core::Result<void> make_folder(const std::string& path) {
  std::error_code ec;
  if (fs::is_directory(path, ec)) return core::ok();
  fs::create_directories(fs::path(path), ec);
  if (ec) return cant_use(path, ec.value());
  fs::permissions(path, fs::perms::owner_all, ec);
  return core::ok();
}

/// What a file or folder holds is on the disk when this returns.
core::Result<void> sync(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  const int code = errno;
  if (fd >= 0) ::close(fd);
  if (!synced) return core::unavailable("can't write " + path + ": " + std::strerror(code));
  return core::ok();
}

/// A copy that was cut short must not look like a backup: it gets its name when it is whole and on the disk.
core::Result<void> publish(const std::string& partial, const std::string& file) {
  FLEXI_TRY(sync(partial));
  // link(2) refuses to replace a file, rename(2) would not.
  if (::link(partial.c_str(), file.c_str()) != 0) return core::conflict("can't write " + file + ": " + std::strerror(errno));
  ::unlink(partial.c_str());
  const auto folder = fs::path(file).parent_path();
  return sync(folder.empty() ? "." : folder.string());
}

/// Watches a copy grow, which SQLite makes in one statement, until it is destroyed.
class Watch {
 public:
  Watch(const Progress& progress, std::string copy, std::uintmax_t bytes)
      : progress_(progress), copy_(std::move(copy)), bytes_(std::max<std::uintmax_t>(bytes, 1)) {
    if (progress_) thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  }

 private:
  void run(const std::stop_token& stop) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    do {
      std::error_code ec;
      const auto size = fs::file_size(copy_, ec);
      // Its last bytes have still to reach the disk.
      progress_("copying", ec ? 0 : static_cast<int>(std::min<std::uintmax_t>(size * 100 / bytes_, 99)));
    } while (!stopped_.wait_for(lock, stop, std::chrono::milliseconds(200), [&stop] { return stop.stop_requested(); }));
  }
  const Progress& progress_;
  std::string copy_;
  std::uintmax_t bytes_;
  std::condition_variable_any stopped_;
  std::jthread thread_;
};

/// What a copy without its free pages will have.
std::uintmax_t used_bytes(Connection& database) {
  std::int64_t numbers[3] = {0, 0, 0};
  const char* asked[3] = {"PRAGMA page_count", "PRAGMA freelist_count", "PRAGMA page_size"};
  for (int i = 0; i < 3; ++i) {
    auto statement = database.use(asked[i]);
    if (auto row = statement.step(); row && row.value()) numbers[i] = statement.integer(0);
  }
  return static_cast<std::uintmax_t>(std::max<std::int64_t>(numbers[0] - numbers[1], 0) * numbers[2]);
}

core::Result<void> copy_database(const std::string& from, const std::string& to, const Progress& progress) {
  if (fs::exists(to)) return core::conflict(to + " exists already");
  const std::string partial = to + ".partial";
  std::error_code ignored;
  fs::remove(partial, ignored);
  FLEXI_TRY(auto source, Connection::open(from, Connection::Mode::read_only));
  {
    const Watch watch(progress, partial, used_bytes(*source));
    auto copy = source->use("VACUUM INTO ?1");
    copy.bind(1, std::string_view(partial));
    if (auto copied = copy.run(); !copied) {
      fs::remove(partial, ignored);
      return core::unavailable("can't copy " + from + " to " + to, copied.error().detail);
    }
  }
  fs::permissions(partial, fs::perms::owner_read | fs::perms::owner_write, ignored);
  FLEXI_TRY(publish(partial, to));
  if (progress) progress("copying", 100);
  return core::ok();
}

core::Result<void> check_backup(const std::string& file) {
  const auto not_one = [&] { return core::invalid_argument(file + " is not a FlexiConnect backup, or is damaged"); };
  auto opened = Connection::open(file, Connection::Mode::read_only);
  if (!opened) return not_one();
  auto& source = *opened.value();
  {
    auto check = source.use("PRAGMA integrity_check");
    auto row = check.step();
    if (!row || !row.value() || check.text(0) != "ok") return not_one();
  }
  auto versions = source.use("SELECT count(*) FROM schema_versions");
  auto row = versions.step();
  if (!row || !row.value() || versions.integer(0) == 0) return not_one();
  return core::ok();
}

}  // namespace

core::Result<DataDirectory> DataDirectory::open(const std::string& path) {
  FLEXI_TRY(make_folder(path));
  const std::string file = path + "/lock";
  const int lock = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) return cant_use(path, errno);
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock);
    return core::conflict("another FlexiConnect serves from the data folder " + path + ": stop it, or set FLEXI_DATA_DIR to another folder");
  }
  return DataDirectory(path, lock);
}

core::Result<DataDirectory> DataDirectory::open_shared(const std::string& path, bool create) {
  if (create) {
    FLEXI_TRY(make_folder(path));
  }
  DataDirectory directory(path, -1);
  if (!create && !fs::exists(directory.database_file()))
    return core::not_found("there is no FlexiConnect data in " + path + ": set FLEXI_DATA_DIR (or --data-dir) to the folder that the server uses");
  return directory;
}

DataDirectory::DataDirectory(DataDirectory&& other) noexcept : path_(std::move(other.path_)), lock_(other.lock_) { other.lock_ = -1; }

DataDirectory::~DataDirectory() {
  if (lock_ >= 0) ::close(lock_);
}

core::Result<void> backup(const std::string& data_directory, const std::string& file, const Progress& progress) {
  FLEXI_TRY(auto directory, DataDirectory::open_shared(data_directory, false));
  return copy_database(directory.database_file(), file, progress);
}

core::Result<void> restore(const std::string& data_directory, const std::string& file, const Progress& progress) {
  if (progress) progress("checking the backup", std::nullopt);
  FLEXI_TRY(check_backup(file));
  FLEXI_TRY(auto directory, DataDirectory::open(data_directory));
  if (fs::exists(directory.database_file())) return core::conflict("the data folder " + data_directory + " holds data already: move it away first");
  return copy_database(file, directory.database_file(), progress);
}

}  // namespace flexi::apps
