// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "apps/transfer/export_lines.hpp"
#include "apps/transfer/line_reader.hpp"

namespace flexi::apps::transfer {

namespace fs = std::filesystem;
using core::Result;

namespace {

constexpr std::size_t kBufferBytes = 256 * 1024;

class FileExportWriter final : public ExportWriter {
 public:
  FileExportWriter(std::string file, int fd) : file_(std::move(file)), fd_(fd) {}
  ~FileExportWriter() override {
    (void)flush();  // what a later one may go on from
    ::close(fd_);
  }
  FileExportWriter(const FileExportWriter&) = delete;

  const ExportState& state() const override { return state_; }

  Result<void> add(const core::User& user) override {
    ++state_.counts.users;
    return put(to_line(user));
  }
  Result<void> add(const core::LogRecord& record) override {
    ++state_.counts.logs;
    return put(to_line(record));
  }
  Result<void> checkpoint(std::string cursor) override {
    state_.begun = true;
    state_.cursor = cursor;
    return put(to_line(CheckpointLine{state_.counts, std::move(cursor)}));
  }
  Result<void> finish() override {
    FLEXI_TRY(put(to_line(EndLine{state_.counts, checksum_.hex()})));
    FLEXI_TRY(flush());
    if (::fsync(fd_) != 0) return failed();
    // link(2) refuses to replace a file, rename(2) would not.
    if (::link(partial(file_).c_str(), file_.c_str()) != 0) return core::conflict("can't write " + file_ + ": " + std::strerror(errno));
    ::unlink(partial(file_).c_str());
    const auto folder = fs::path(file_).parent_path();
    const int directory = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_CLOEXEC);
    if (directory < 0) return core::ok();
    const bool synced = ::fsync(directory) == 0;
    ::close(directory);
    if (!synced) return failed();
    return core::ok();
  }

  static std::string partial(const std::string& file) { return file + ".partial"; }

  /// Goes on behind the last checkpoint of what is there already, or begins.
  Result<void> resume(const ExportHeader& header) {
    FLEXI_TRY(const auto kept, read_what_is_there(header));
    if (::ftruncate(fd_, static_cast<off_t>(kept)) != 0 || ::lseek(fd_, 0, SEEK_END) < 0) return failed();
    return kept == 0 ? put(to_line(header)) : core::ok();
  }

 private:
  /// @return how many bytes of it stay
  Result<std::uint64_t> read_what_is_there(const ExportHeader& header) {
    FLEXI_TRY(auto lines, LineReader::open(partial(file_)));
    Checksum seen;
    std::uint64_t kept = 0;
    for (bool first = true;; first = false) {
      auto line = lines->next();
      if (!line || !line.value()) break;  // a line that was cut short was never covered
      seen.add(*line.value());
      auto parsed = parse_line(*line.value());
      if (first) {
        const auto* there = parsed ? std::get_if<ExportHeader>(&parsed.value()) : nullptr;
        if (there && (there->what != header.what || there->from != header.from))
          return core::conflict(partial(file_) + " is of another export (" + there->what + " of " + there->from +
                                "): remove it, or choose another file");
        if (!there) break;
      }
      if (!parsed) break;
      auto* checkpoint = std::get_if<CheckpointLine>(&parsed.value());
      if (!checkpoint) continue;
      kept = lines->offset();
      checksum_ = seen;
      state_ = {.begun = true, .counts = checkpoint->counts, .cursor = std::move(checkpoint->cursor)};
    }
    return kept;
  }

  Result<void> put(const std::string& line) {
    checksum_.add(line);
    buffer_ += line;
    return buffer_.size() < kBufferBytes ? core::ok() : flush();
  }
  Result<void> flush() {
    std::size_t written = 0;
    while (written < buffer_.size()) {
      const auto count = ::write(fd_, buffer_.data() + written, buffer_.size() - written);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) {
        const auto error = failed();
        buffer_.clear();
        return error;
      }
      written += static_cast<std::size_t>(count);
    }
    buffer_.clear();
    return core::ok();
  }
  core::Error failed() const { return core::unavailable("can't write " + partial(file_) + ": " + std::strerror(errno)); }

  const std::string file_;
  const int fd_;
  ExportState state_;
  Checksum checksum_;
  std::string buffer_;
};

}  // namespace

Result<std::unique_ptr<ExportWriter>> ExportWriter::open(const std::string& file, const ExportHeader& header) {
  if (fs::exists(file)) return core::conflict(file + " exists already");
  const auto partial = FileExportWriter::partial(file);
  const int fd = ::open(partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return core::unavailable("can't write " + partial + ": " + std::strerror(errno));
  auto writer = std::make_unique<FileExportWriter>(file, fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return core::conflict("another process writes " + partial);
  ::fchmod(fd, 0600);
  FLEXI_TRY(writer->resume(header));
  return std::unique_ptr<ExportWriter>(std::move(writer));
}

}  // namespace flexi::apps::transfer
