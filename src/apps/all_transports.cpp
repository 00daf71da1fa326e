// SPDX-License-Identifier: Apache-2.0
#include "apps/all_transports.hpp"

#include <array>

#include "core/random.hpp"
#include "services/frontend/frontend.hpp"
#include "transports/grpc/grpc.hpp"
#include "transports/rpc/rpc.hpp"

namespace flexi::apps {

namespace grpc = transports::grpc;
namespace http = transports::http;
namespace rpc = transports::rpc;
using core::Result;

namespace {

/// 128 bits that nobody outside this process learns: its own endpoints alone are shown them.
std::string make_process_key() {
  std::array<std::uint8_t, 16> bytes;
  core::fill_random(bytes);
  std::string text;
  for (auto byte : bytes)
    for (auto half : {byte >> 4, byte & 15}) text += "0123456789abcdef"[half];
  return text;
}

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
  if (endpoint.starts_with("grpc://") || endpoint.starts_with("grpcs://")) return core::Via::grpc;
  if (endpoint.starts_with("rpc://")) return core::Via::rpc;
  return std::nullopt;
}

AllTransports::AllTransports(const Settings& settings, Process& process, std::string admin_token)
    : settings_(settings), process_(process), own_{std::move(admin_token), make_process_key()} {}

/// Each transport has its own view of what belongs to the process.
template <class View>
View AllTransports::view_of(const Secrets& secrets) const {
  return {process_.metrics, process_.readiness, process_.log, process_.shards, secrets.admin_token, &process_.peers, secrets.process_key, settings_.admin_token_always};
}

Result<std::unique_ptr<core::Client>> AllTransports::connect(const std::string& endpoint) { return connect(endpoint, {own_.admin_token, {}}); }

Result<std::unique_ptr<core::Client>> AllTransports::connect_back(const std::string& endpoint) { return connect(endpoint, own_); }

Result<std::unique_ptr<core::Client>> AllTransports::connect(const std::string& endpoint, const Secrets& secrets) {
  switch (via_of(endpoint).value_or(core::Via::automatic)) {
    case core::Via::http: return http::connect(settings_.http_client, view_of<http::Process>(secrets), endpoint);
    case core::Via::grpc: return grpc::connect(settings_.grpc_client, view_of<grpc::Process>(secrets), endpoint);
    case core::Via::rpc: return rpc::connect(settings_.rpc_client, view_of<rpc::Process>(secrets), endpoint);
    default: return core::invalid_argument("an endpoint begins with http://, grpc://, grpcs:// or rpc://, not \"" + endpoint + "\"");
  }
}

Result<std::unique_ptr<core::Client>> AllTransports::connect_foreign(const std::string& endpoint) {
  // The administrator's token is ours, and no business of another's.
  if (via_of(endpoint) != core::Via::http) return connect(endpoint, Secrets{});
  return http::connect_foreign(settings_.http_client, view_of<http::Process>({}), endpoint);
}

Result<void> AllTransports::serve(const Served& served, std::vector<Listening>& all) {
  auto resources = served.page ? page(settings_) : std::vector<http::StaticResource>{};
  FLEXI_TRY(auto server, http::serve(settings_.http, {view_of<http::Process>(own_), served.broker, served.services, std::move(resources), served.log_grpc, served.login_tokens}));
  all.push_back({core::Via::http, std::move(server)});
  if (!settings_.grpc.listen.empty()) {
    FLEXI_TRY(auto more, grpc::serve(settings_.grpc, {view_of<grpc::Process>(own_), served.broker, served.services, served.login_tokens}));
    all.push_back({core::Via::grpc, std::move(more)});
  }
  if (!settings_.rpc.listen.empty()) {
    FLEXI_TRY(auto more, rpc::serve(settings_.rpc, {view_of<rpc::Process>(own_), served.broker, served.services, {}, served.login_tokens}));
    all.push_back({core::Via::rpc, std::move(more)});
  }
  return core::ok();
}

}  // namespace flexi::apps
