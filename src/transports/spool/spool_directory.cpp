// SPDX-License-Identifier: Apache-2.0
#include "transports/spool/spool_directory.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace flexi::transports::spool {

namespace fs = std::filesystem;

namespace {

constexpr int kMaxSpools = 1000;

std::string name_of(const std::string& folder, int number) { return folder + "/spool-" + std::to_string(number); }

/// -1: taken, or errno says why not.
int lock_file(const std::string& path) {
  const int lock = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0 || ::flock(lock, LOCK_EX | LOCK_NB) == 0) return lock;
  const int why = errno;
  ::close(lock);
  errno = why;
  return -1;
}

core::Error unusable(const std::string& what) {
  return core::unavailable("the spool can't be used", what + ": " + std::strerror(errno));
}

}  // namespace

SpoolFile::~SpoolFile() { ::close(lock_); }

void SpoolFile::remove() {
  std::error_code ignored;
  for (const char* suffix : {"-wal", "-shm", ""}) fs::remove(path_ + suffix, ignored);
}

core::Result<std::unique_ptr<SpoolFile>> SpoolDirectory::take() const {
  std::error_code ignored;
  fs::create_directory(path_, ignored);  // not what is above it: a volume that is not mounted is better missed than replaced
  for (int n = 1; n <= kMaxSpools; ++n) {
    const auto name = name_of(path_, n);
    const int lock = lock_file(name + ".lock");
    if (lock >= 0) return std::make_unique<SpoolFile>(name + ".db", lock);
    if (errno != EWOULDBLOCK) return unusable(name + ".lock");
  }
  return core::unavailable("the spool can't be used", path_ + ": all of its " + std::to_string(kMaxSpools) + " spools are taken");
}

std::vector<std::unique_ptr<SpoolFile>> SpoolDirectory::orphans() const {
  std::vector<std::unique_ptr<SpoolFile>> found;
  for (int n = 1; n <= kMaxSpools; ++n) {
    const auto name = name_of(path_, n);
    std::error_code ignored;
    if (!fs::exists(name + ".lock", ignored)) break;  // they are taken from the first on and never removed
    if (!fs::exists(name + ".db", ignored)) continue;
    const int lock = lock_file(name + ".lock");
    if (lock < 0) continue;
    auto file = std::make_unique<SpoolFile>(name + ".db", lock);
    if (fs::exists(name + ".db", ignored)) found.push_back(std::move(file));  // else another one has adopted it just now
  }
  return found;
}

}  // namespace flexi::transports::spool
