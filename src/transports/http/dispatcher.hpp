// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>

#include "transports/http/client_address.hpp"
#include "transports/http/head.hpp"
#include "transports/http/http.hpp"
#include "transports/http/response.hpp"
#include "transports/http/security.hpp"

namespace flexi::transports::http {

/// A request that has been understood: either answered already, or a call for a handler.
struct Plan {
  std::optional<Answer> answer{};    ///< set: no handler is asked
  core::Handler* handler = nullptr;
  core::Request request{};
  core::CallContext context{};
  core::MessageId id{};              ///< the request's: it stands in the answer when the request is long gone
  std::string action{};
  Target target = Target::hit;
  std::string cors{};                ///< header lines for every answer to this request
  bool inner = false;                ///< comes from another of our own hops, which answers for it: it is believed
  bool parallel = false;             ///< may run beside the requests pipelined after it
};

/// What every request means: routes, rules, JSON to Request, Reply to JSON. Knows no socket.
/// Lifetime/threads: immutable, any thread; views of a Head must live while it is planned
class Dispatcher {
 public:
  Dispatcher(const HttpServerOptions& options, Ingress ingress, std::string own_host);

  Plan plan(const Head& head, std::string_view body, const boost::asio::ip::address& peer) const;
  /// The answer to a handler's result. A Reply with events gives the header of the stream; its body follows.
  Answer finish(const Plan& plan, const core::Result<core::Reply>& result) const;
  /// A body over the limit: the contract's own calls say 400.
  Answer too_large(const Head& head) const;
  /// A body that there is no room for now.
  Answer no_room(const Head& head) const;

 private:
  struct Resource {
    StaticResource file;
    std::string headers;
  };

  void plan_options(Plan& plan, const Head& head) const;
  void plan_resource(Plan& plan, const Head& head, const Resource& resource) const;
  void plan_probe(Plan& plan) const;
  void plan_hit(Plan& plan, std::string_view body) const;
  core::Result<void> plan_call(Plan& plan, const Head& head, const RouteMatch& match, std::string_view body, const Asker& asker) const;
  core::Result<void> check_reader_of_metrics(const Asker& asker) const;
  core::Result<void> read_caller(Plan& plan, const Head& head, const Asker& asker) const;
  core::Result<void> read_parameters(Plan& plan, const Head& head, const RouteMatch& match, std::string_view body) const;
  core::Result<void> read_identity(Plan& plan, const Head& head, const std::optional<std::string>& body_id) const;
  core::Result<void> read_journey(Plan& plan, const Head& head) const;
  bool is_trusted(const Head& head) const;
  core::Result<void> read_context(Plan& plan, const Head& head) const;
  core::Handler* handler_of(Target target) const;
  void complete_refusal(Answer& answer, const Head& head) const;

  const HttpServerOptions options_;
  const Ingress ingress_;
  AdminRules rules_;
  std::vector<Network> trusted_proxies_;
  std::map<std::string, Resource, std::less<>> resources_;
};

}  // namespace flexi::transports::http
