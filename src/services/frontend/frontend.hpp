// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/options.hpp"

namespace flexi::services::frontend {

struct FrontEndOptions {
  /// Where the browser finds the broker. Empty: where the page itself came from.
  std::string broker_url;

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// One resource that a server gives as it is. A value: it owns its bytes.
struct StaticFile {
  std::string path;  ///< e.g. "/", "/app/app.js", "/openapi.yaml"
  std::string content_type;
  std::string body;
  std::string gzip;           ///< the same, for `Content-Encoding: gzip`; empty: there is none
  std::string etag;           ///< weak, with its quotes: it stands for both encodings. Source: RFC 9110 section 8.8.3
  std::string cache_control;  ///< asks the browser to revalidate, so that an upgrade shows at once
  std::vector<std::pair<std::string, std::string>> headers;  ///< the security headers
};

/// The test page and the API's description, ready to serve.
/// @param options valid ones (validate() found nothing): broker_url stands in the page and in its security policy
std::vector<StaticFile> static_files(const FrontEndOptions& options);

}  // namespace flexi::services::frontend
