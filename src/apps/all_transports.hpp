// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/process.hpp"
#include "core/transport.hpp"
#include "transports/http/http.hpp"

namespace flexi::apps {

/// A listening end with the transport that it speaks.
struct Listening {
  core::Via via;
  /// Those of the network may be told to stop once more while they do, with less time.
  std::unique_ptr<core::Server> server;
  bool stopped = false;
};

/// What the listeners of a process serve; null: not here.
struct Served {
  core::Handler* broker = nullptr;
  core::Handler* services = nullptr;
  bool page = false;
  core::Via log_grpc = core::Via::automatic;  ///< how the contract's POST /log-gRPC goes on
  bool login_tokens = false;                  ///< both ask whose token it is before they administer
};

/// The one place that names the network's transports. A transport that is not here does not exist.
class AllTransports {
 public:
  AllTransports(const Settings& settings, Process& process, std::string admin_token);

  /// The transport of "http://…", by its scheme.
  static std::optional<core::Via> via_of(std::string_view endpoint);
  /// @return invalid_argument where the endpoint can't be understood
  core::Result<std::unique_ptr<core::Client>> connect(const std::string& endpoint);
  /// A client of this very process, by the endpoint of one of its own servers: these believe what it says of a message.
  core::Result<std::unique_ptr<core::Client>> connect_back(const std::string& endpoint);
  /// A client of a service that is not ours, which never sees the administrator's token: by HTTP its one URL.
  core::Result<std::unique_ptr<core::Client>> connect_foreign(const std::string& endpoint);
  /// Every listener that the settings name, HTTP's first.
  /// @param all gets each one as it is made, so that those can be stopped where a later one can't listen
  core::Result<void> serve(const Served& served, std::vector<Listening>& all);

 private:
  /// What one end shows, and believes.
  struct Secrets {
    std::string admin_token, process_key;
  };
  core::Result<std::unique_ptr<core::Client>> connect(const std::string& endpoint, const Secrets& secrets);
  template <class View>
  View view_of(const Secrets& secrets) const;
  const Settings& settings_;
  Process& process_;
  const Secrets own_;
};

}  // namespace flexi::apps
