// SPDX-License-Identifier: Apache-2.0
#include "services/broker/broker_options.hpp"

#include <algorithm>

namespace flexi::services::broker {

using core::Via;
using runtime::append_problems;
using runtime::Problems;

std::vector<Via> vias_of(const std::vector<std::string>& names) {
  std::vector<Via> vias;
  for (auto& name : names)
    if (auto via = core::via_from(name); via && *via != Via::automatic) vias.push_back(*via);
  return vias;
}

namespace {

void check_names(Problems& problems, const char* path, const std::vector<std::string>& names) {
  for (auto it = names.begin(); it != names.end(); ++it) {
    const auto via = core::via_from(*it);
    if (!via || *via == Via::automatic) problems.push_back({path, "\"" + *it + "\" is not one of amqp, grpc, http, inproc, rpc"});
    else if (std::find(names.begin(), it, *it) != it) problems.push_back({path, "\"" + *it + "\" is there twice"});
  }
}

}  // namespace

void RouteOptions::describe(runtime::OptionVisitor& v) {
  if (kind != Kind::authentication) {
    v.field("ack", ack, "What an answer means where the caller doesn't say: accepted (durably queued) or stored");
    v.field("accepted_order", accepted_order, "Transports that auto tries in turn for ack accepted");
  }
  v.field("stored_order", stored_order, "Transports that auto tries in turn for ack stored");
  v.field("forbidden", forbidden, "Transports that nobody may ask for");
  if (kind == Kind::effect) v.field("idempotent", idempotent, "Carrying it out twice does no harm, so it may be tried again after a failure half-way");
}

Problems RouteOptions::validate() const {
  Problems problems;
  const auto parsed = core::ack_from(ack);
  if (!parsed || (kind == Kind::authentication && *parsed != core::Ack::stored))
    problems.push_back({"ack", kind == Kind::authentication ? "must be stored" : "must be accepted or stored"});
  check_names(problems, "accepted_order", accepted_order);
  check_names(problems, "stored_order", stored_order);
  check_names(problems, "forbidden", forbidden);
  auto all_forbidden = [this](const std::vector<std::string>& order) {
    return std::all_of(order.begin(), order.end(), [this](auto& name) { return std::find(forbidden.begin(), forbidden.end(), name) != forbidden.end(); });
  };
  if (kind != Kind::authentication && all_forbidden(accepted_order)) problems.push_back({"accepted_order", "must name a transport that is not forbidden"});
  if (all_forbidden(stored_order)) problems.push_back({"stored_order", "must name a transport that is not forbidden"});
  return problems;
}

void BrokerOptions::describe(runtime::OptionVisitor& v) {
  v.field("attempt_timeout", attempt_timeout, "Time for one remote transport while another is left to try; 0 is all that the caller has left");
  v.field("max_payload_bytes", max_payload_bytes, "Larger payloads, as JSON, are refused whichever way they come; every service must take as much");
  v.group("auth", "Routing of authentication", auth);
  v.group("log", "Routing of log entries", log);
  v.group("mail", "Routing of mails", mail);
  v.group("custom", "Routing of custom actions", custom);
  v.group("rate_limit", "Limits on requests per second", rate_limit);
  v.group("concurrency", "Adaptive limit on requests at once, per action", concurrency);
  v.group("retry", "Trying again after transient failures", retry);
  v.group("circuit", "Setting a failing transport aside", circuit);
}

Problems BrokerOptions::validate() const {
  Problems problems;
  if (attempt_timeout.count() < 0) problems.push_back({"attempt_timeout", "must not be negative"});
  if (max_payload_bytes < 1024 || max_payload_bytes > (1 << 28))
    problems.push_back({"max_payload_bytes", "must be 1024 to " + std::to_string(1 << 28)});
  append_problems(problems, "auth", auth.validate());
  append_problems(problems, "log", log.validate());
  append_problems(problems, "mail", mail.validate());
  append_problems(problems, "custom", custom.validate());
  append_problems(problems, "rate_limit", rate_limit.validate());
  append_problems(problems, "concurrency", concurrency.validate());
  append_problems(problems, "retry", retry.validate());
  append_problems(problems, "circuit", circuit.validate());
  return problems;
}

}  // namespace flexi::services::broker
