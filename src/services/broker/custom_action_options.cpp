// SPDX-License-Identifier: Apache-2.0
#include "services/broker/custom_action_options.hpp"

#include <algorithm>

#include "runtime/net/address.hpp"

namespace flexi::services::broker {

using core::Via;
using runtime::Problems;

namespace {

constexpr std::size_t kMaxNameBytes = 48;  // a queue's name is "flexi.action.<name>.retry.<n>"
constexpr std::string_view kKey = "amqp:action.";

// Actions of our own, and the fields that stand beside an action's payload in a body.
constexpr std::string_view kTaken[] = {"auth", "log", "mail", "hit", "action", "via", "ack", "id"};

/// A name that is in JSON, in a URL, in a metric's label and in a queue's name without being quoted anywhere.
std::string wrong_name(std::string_view name) {
  if (std::find(std::begin(kTaken), std::end(kTaken), name) != std::end(kTaken)) return "is taken: an action of your own needs another name";
  const bool letters = std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; });
  if (!letters || name.empty() || !std::isalpha(static_cast<unsigned char>(name.front())) || name.size() > kMaxNameBytes)
    return "must begin with a letter and hold at most " + std::to_string(kMaxNameBytes) + " letters, digits, - and _";
  return {};
}

bool contains(const std::vector<Via>& vias, Via via) { return std::find(vias.begin(), vias.end(), via) != vias.end(); }

void check_targets(Problems& problems, const std::string& name, const CustomActionOptions& action) {
  if (action.url.empty()) problems.push_back({name + ".url", "is required: where the action's service is, e.g. http://127.0.0.1:9000/" + name});
  std::vector<Via> there;
  for (auto& url : action.url) {
    auto target = parse_action_target(url);
    if (!target) {
      problems.push_back({name + ".url", target.error().message});
    } else if (contains(there, target.value().via)) {
      problems.push_back({name + ".url", "has two of " + std::string(core::to_string(target.value().via)) + ": give one of each transport (a host name may have many addresses)"});
    } else if (target.value().via == Via::amqp && target.value().endpoint != "action." + name) {
      problems.push_back({name + ".url", "the queue's key of this action is amqp:action." + name + ", not \"" + url + "\""});
    } else {
      there.push_back(target.value().via);
    }
  }
  if (there.empty()) return;
  const auto forbidden = vias_of(action.route.forbidden);
  if (there == std::vector{Via::amqp} && action.route.ack != "accepted")
    problems.push_back({name + ".ack", "must be accepted: a consumer of the queue answers nobody, so nothing can be called stored"});
  if (!contains(there, Via::amqp)) there.push_back(Via::amqp);  // our own queue, then on to the service
  const auto order = vias_of(action.route.ack == "accepted" ? action.route.accepted_order : action.route.stored_order);
  const auto goes = [&](Via via) { return contains(there, via) && !contains(forbidden, via); };
  if (std::none_of(order.begin(), order.end(), goes))
    problems.push_back({name + (action.route.ack == "accepted" ? ".accepted_order" : ".stored_order"), "names no transport that leads to its url"});
}

}  // namespace

core::Result<ActionTarget> parse_action_target(std::string_view url) {
  if (url.starts_with("http://")) {
    FLEXI_TRY(runtime::net::parse_url(url, "http", 80));
    return ActionTarget{Via::http, std::string(url)};
  }
  struct Scheme {
    std::string_view name;
    Via via;
    std::uint16_t port;
  };
  for (auto& scheme : {Scheme{"grpc", Via::grpc, 50001}, Scheme{"grpcs", Via::grpc, 50001}, Scheme{"rpc", Via::rpc, 5001}}) {
    if (!url.starts_with(std::string(scheme.name) + "://")) continue;
    FLEXI_TRY(runtime::net::parse_endpoint(url, scheme.name, scheme.port));
    return ActionTarget{scheme.via, std::string(url)};
  }
  if (url.starts_with(kKey) && url.size() > kKey.size()) return ActionTarget{Via::amqp, std::string(url.substr(5))};
  return core::invalid_argument("\"" + std::string(url) + "\" is none of http://host:port/path, grpc://host:port, rpc://host:port, amqp:action.<name>");
}

void CustomActionOptions::describe(runtime::OptionVisitor& v) {
  v.field("url", url, "Its service: http://host:port/path, grpc://host:port, rpc://host:port, or amqp:action.<name> for a consumer of your own");
  v.field("protected", is_protected, "Wants the token of a login (or the administrator's): Authorization: Bearer <token>");
  route.describe(v);
}

std::vector<ActionTarget> CustomActionOptions::targets() const {
  std::vector<ActionTarget> all;
  for (auto& text : url)
    if (auto target = parse_action_target(text)) all.push_back(std::move(target).value());
  return all;
}

bool CustomActionOptions::has_own_consumer() const {
  return std::any_of(url.begin(), url.end(), [](auto& text) { return text.starts_with(kKey); });
}

Problems validate(const CustomActions& actions) {
  Problems problems;
  for (auto& [name, action] : actions) {
    if (auto wrong = wrong_name(name); !wrong.empty()) problems.push_back({name, wrong});
    check_targets(problems, name, action);
    runtime::append_problems(problems, name, action.route.validate());
  }
  return problems;
}

}  // namespace flexi::services::broker
