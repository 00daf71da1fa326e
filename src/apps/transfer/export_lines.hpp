// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "apps/transfer/export_file.hpp"

struct evp_md_ctx_st;

namespace flexi::apps::transfer {

/// SHA-256 of what has been added, at any moment.
class Checksum {
 public:
  Checksum();
  Checksum(const Checksum& other);
  Checksum& operator=(const Checksum& other);
  ~Checksum();
  void add(std::string_view bytes);
  std::string hex() const;

 private:
  evp_md_ctx_st* context_;
};

struct CheckpointLine {
  ExportCounts counts;
  std::string cursor;
};
struct EndLine {
  ExportCounts counts;
  std::string sha256;  ///< of all bytes before this line
};
using ExportLine = std::variant<ExportHeader, core::User, core::LogRecord, CheckpointLine, EndLine>;

inline constexpr int kExportVersion = 1;
inline constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;  ///< a document of MongoDB has at most 16 MiB; JSON may escape it

/// One line, with its end.
std::string to_line(const ExportLine& line);
/// @return invalid_argument that says what is wrong with it
core::Result<ExportLine> parse_line(std::string_view line);

}  // namespace flexi::apps::transfer
