// SPDX-License-Identifier: Apache-2.0
#include "apps/transfer/export_lines.hpp"
#include "apps/transfer/line_reader.hpp"

namespace flexi::apps::transfer {

using core::Result;

namespace {

class FileExportReader final : public ExportReader {
 public:
  explicit FileExportReader(std::string file) : file_(std::move(file)) {}

  const ExportHeader& header() const override { return header_; }
  const ExportCounts& counts() const override { return counts_; }
  int percent() const override { return lines_->size() == 0 ? 100 : static_cast<int>(lines_->offset() * 100 / lines_->size()); }

  Result<void> rewind() override {
    FLEXI_TRY(lines_, LineReader::open(file_));
    counts_ = {};
    checksum_ = {};
    last_.clear();
    auto first = read();
    auto* header = first && first.value() ? std::get_if<ExportHeader>(&*first.value()) : nullptr;
    if (!header) return core::invalid_argument(file_ + " is not what `flexiconnect export` writes" + (first ? "" : ": " + first.error().message));
    header_ = std::move(*header);
    return core::ok();
  }

  Result<std::optional<Entry>> next() override {
    for (;;) {
      FLEXI_TRY(auto line, read());
      if (!line) return wrong(lines_->number() + 1, "the last line that every whole export has is missing: the file was cut short");
      if (auto* record = std::get_if<core::LogRecord>(&*line)) {
        ++counts_.logs;
        return std::optional<Entry>(std::move(*record));
      }
      if (auto* user = std::get_if<core::User>(&*line)) {
        ++counts_.users;
        return std::optional<Entry>(std::move(*user));
      }
      if (auto* checkpoint = std::get_if<CheckpointLine>(&*line)) {
        if (checkpoint->counts != counts_) return wrong(lines_->number(), "counts other users or log entries before it than there are");
      } else if (auto* end = std::get_if<EndLine>(&*line)) {
        FLEXI_TRY(check_end(*end));
        return std::optional<Entry>();
      } else {
        return wrong(lines_->number(), "a second header");
      }
    }
  }

 private:
  /// The next line; the checksum is that of all before it.
  Result<std::optional<ExportLine>> read() {
    checksum_.add(last_);
    last_.clear();
    auto line = lines_->next();
    if (!line) return wrong(lines_->number() + 1, line.error().message);
    if (!line.value()) return std::optional<ExportLine>();
    last_ = *line.value();
    auto parsed = parse_line(last_);
    if (!parsed) return wrong(lines_->number(), parsed.error().message);
    return std::optional<ExportLine>(std::move(parsed.value()));
  }

  Result<void> check_end(const EndLine& end) {
    if (end.counts != counts_)
      return wrong(lines_->number(), "it counts " + std::to_string(end.counts.users) + " users and " + std::to_string(end.counts.logs) +
                                         " log entries, but there are " + std::to_string(counts_.users) + " and " + std::to_string(counts_.logs));
    if (end.sha256 != checksum_.hex()) return wrong(lines_->number(), "the checksum differs: the file was changed or damaged");
    auto more = lines_->next();
    if (!more || more.value()) return wrong(lines_->number(), "there is something behind the end");
    return core::ok();
  }

  core::Error wrong(std::uint64_t number, const std::string& what) const {
    return core::invalid_argument(file_ + ", line " + std::to_string(number) + ": " + what);
  }

  const std::string file_;
  std::unique_ptr<LineReader> lines_;
  ExportHeader header_;
  ExportCounts counts_;
  Checksum checksum_;
  std::string last_;
};

}  // namespace

Result<std::unique_ptr<ExportReader>> ExportReader::open(const std::string& file) {
  auto reader = std::make_unique<FileExportReader>(file);
  FLEXI_TRY(reader->rewind());
  return std::unique_ptr<ExportReader>(std::move(reader));
}

}  // namespace flexi::apps::transfer
