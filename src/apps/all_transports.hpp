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
};

/// The one place that names the network's transports. A transport that is not here does not exist.
class AllTransports {
 public:
  AllTransports(const Settings& settings, Process& process, std::string admin_token)
      : settings_(settings), process_(process), admin_token_(std::move(admin_token)) {}

  /// The transport of "http://…", by its scheme.
  static std::optional<core::Via> via_of(std::string_view endpoint);
  /// @return invalid_argument where the endpoint can't be understood
  core::Result<std::unique_ptr<core::Client>> connect(const std::string& endpoint);
  /// A client of a service that is not ours, which never sees the administrator's token: by HTTP its one URL.
  core::Result<std::unique_ptr<core::Client>> connect_foreign(const std::string& endpoint);
  /// Every listener that the settings name, HTTP's first.
  /// @param all gets each one as it is made, so that those can be stopped where a later one can't listen
  core::Result<void> serve(const Served& served, std::vector<Listening>& all);

 private:
  core::Result<std::unique_ptr<core::Client>> connect(const std::string& endpoint, const std::string& token);
  transports::http::Process http_process(std::string admin_token);
  const Settings& settings_;
  Process& process_;
  std::string admin_token_;
};

}  // namespace flexi::apps
