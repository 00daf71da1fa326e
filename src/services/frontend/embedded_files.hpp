// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace flexi::services::frontend {

/// One file of web/ or schemas/ as it was at build time; the bytes live as long as the program.
struct EmbeddedFile {
  std::string_view path;  ///< in the URL, e.g. "/app/app.js"
  std::string_view content_type;
  std::string_view hash;  ///< of the body, hexadecimal
  std::string_view body;
  std::string_view gzip;  ///< empty where the build had no gzip
};

std::span<const EmbeddedFile> embedded_files();

}  // namespace flexi::services::frontend
