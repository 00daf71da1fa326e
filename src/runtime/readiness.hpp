// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <mutex>
#include <string>

namespace flexi::runtime {

/// Whether this process can do its work, and if not, why: what `GET /readyz` answers. Liveness (`/healthz`) never asks.
/// Lifetime/threads: any thread
class Readiness {
 public:
  /// A named part is well.
  void set_ready(const std::string& part);
  /// A named part is not; `why` may be shown to a stranger.
  void set_unready(const std::string& part, std::string why);
  /// The process is stopping: unready for good, whatever the parts say.
  void drain();

  bool ready() const;
  bool draining() const;
  /// {"ready":bool,"draining":bool,"parts":{"<part>":"ok"|"<why>"}}
  std::string to_json() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::string> parts_;  ///< empty text: well
  bool draining_ = false;
};

}  // namespace flexi::runtime
