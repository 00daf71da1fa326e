// SPDX-License-Identifier: Apache-2.0
#include "apps/all_transports.hpp"

#include "services/frontend/frontend.hpp"
#include "transports/http/http.hpp"

namespace flexi::apps {

namespace http = transports::http;
using core::Result;

namespace {

std::vector<http::StaticResource> page(const Settings& settings) {
  std::vector<http::StaticResource> all;
  for (auto& file : services::frontend::static_files(settings.front_end)) {
    auto headers = file.headers;
    headers.emplace_back("Cache-Control", file.cache_control);
    all.push_back({file.path, file.content_type, file.body, std::move(headers), file.etag, file.gzip});
  }
  return all;
}

}  // namespace

std::optional<core::Via> AllTransports::via_of(std::string_view endpoint) {
  if (endpoint.starts_with("http://")) return core::Via::http;
  return std::nullopt;
}

Result<std::unique_ptr<core::Client>> AllTransports::connect(const std::string& endpoint) {
  switch (via_of(endpoint).value_or(core::Via::automatic)) {
    case core::Via::http: {
      const http::Process process{process_.metrics, process_.readiness, process_.log, process_.shards, admin_token_};
      return http::connect(settings_.http_client, process, endpoint);
    }
    default: return core::invalid_argument("an endpoint begins with http://, not \"" + endpoint + "\"");
  }
}

Result<std::unique_ptr<core::Client>> AllTransports::connect_foreign(const std::string& endpoint) {
  if (via_of(endpoint) != core::Via::http) return connect(endpoint);
  const http::Process process{process_.metrics, process_.readiness, process_.log, process_.shards, {}};
  return http::connect_foreign(settings_.http_client, process, endpoint);
}

Result<std::vector<Listening>> AllTransports::serve(const Served& served) {
  std::vector<Listening> all;
  const http::Process process{process_.metrics, process_.readiness, process_.log, process_.shards, admin_token_};
  auto resources = served.page ? page(settings_) : std::vector<http::StaticResource>{};
  FLEXI_TRY(auto server, http::serve(settings_.http, {process, served.broker, served.services, std::move(resources)}));
  all.push_back({core::Via::http, std::move(server)});
  return all;
}

}  // namespace flexi::apps
