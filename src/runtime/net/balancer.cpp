// SPDX-License-Identifier: Apache-2.0
#include "runtime/net/balancer.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>

namespace flexi::runtime::net {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

std::vector<std::string> split(std::string_view hosts) {
  std::vector<std::string> all;
  while (!hosts.empty()) {
    const auto comma = std::min(hosts.find(','), hosts.size());
    if (comma != 0) all.emplace_back(hosts.substr(0, comma));
    hosts.remove_prefix(std::min(comma + 1, hosts.size()));
  }
  return all;
}

/// A shorter wait is the caller's impatience, not the address's fault.
constexpr std::chrono::milliseconds kPatience{250};

}  // namespace

Balancer::Balancer(runtime::TaskScope& scope, BalancerOptions options, Authority peer, std::shared_ptr<PeerHealth> health, LookUp look_up)
    : scope_(scope), options_(options), hosts_(split(peer.host)), port_(peer.port),
      health_(health ? std::move(health) : std::make_shared<PeerHealth>(to_authority(peer), options.outliers())),
      look_up_(look_up ? std::move(look_up) : [this](std::string name) { return ask_system(std::move(name)); }) {
  std::vector<Endpoint> found;
  for (auto& host : hosts_) {
    error_code ec;
    const auto address = asio::ip::make_address(host, ec);
    if (ec) return;
    found.emplace_back(address, port_);
  }
  literal_ = true;
  replace(found);
}

core::awaitable<core::Result<void>> Balancer::ready() {
  if (Clock::now() - resolved_at_ > options_.resolve_interval) begin_resolving();
  if (!addresses_.empty()) co_return core::ok();
  auto start = [this](std::shared_ptr<runtime::Completion<void>> completion) { waiting_.push_back(std::move(completion)); };
  co_return co_await runtime::wait_for_completion<void>(std::move(start), runtime::cancelled_error(core::Sent::no));
}

void Balancer::begin_resolving() {
  if (literal_ || resolving_) return;
  resolving_ = true;
  scope_.spawn(resolve());
}

core::awaitable<std::vector<asio::ip::address>> Balancer::ask_system(std::string name) {
  tcp::resolver resolver(scope_.executor());
  error_code ec;
  auto results = co_await resolver.async_resolve(name, std::to_string(port_), asio::redirect_error(asio::use_awaitable, ec));
  std::vector<asio::ip::address> found;
  if (!ec)
    for (auto& result : results) found.push_back(result.endpoint().address());
  co_return found;
}

core::awaitable<void> Balancer::resolve() {
  co_await asio::this_coro::throw_if_cancelled(false);
  std::vector<Endpoint> found;
  for (auto& host : hosts_)
    for (auto& address : co_await look_up_(host)) found.emplace_back(address, port_);
  if (addresses_.empty()) replace(found);  // who waits goes on; known tasks are not given up for their virtual address
  const auto waiting = std::exchange(waiting_, {});
  for (auto& completion : waiting) {
    if (addresses_.empty()) completion->complete(core::unavailable("the service can't be found", "no address for " + health_->peer()));
    else completion->complete(core::ok());
  }
  // In a swarm the name itself is one virtual address; its tasks have one each.
  std::vector<Endpoint> tasks;
  for (auto& host : hosts_)
    if (host.find('.') == host.npos && host != "localhost")
      for (auto& address : co_await look_up_("tasks." + host)) tasks.emplace_back(address, port_);
  replace(tasks.empty() ? found : tasks);
  resolved_at_ = Clock::now();
  if (addresses_.empty()) resolved_at_ = {};
  resolving_ = false;
}

void Balancer::replace(const std::vector<Endpoint>& found) {
  if (found.empty()) return;  // a name server that fails for a moment doesn't make the peer unreachable
  std::vector<Address> fresh;
  for (auto& endpoint : found) {
    if (std::any_of(fresh.begin(), fresh.end(), [&](auto& known) { return known.endpoint == endpoint; })) continue;
    const auto* known = find(endpoint);
    fresh.push_back({endpoint, known ? known->health : health_->of(endpoint)});
  }
  addresses_ = std::move(fresh);
}

const Balancer::Address* Balancer::find(const Endpoint& endpoint) const {
  for (auto& address : addresses_)
    if (address.endpoint == endpoint) return &address;
  return nullptr;
}

Balancer::Endpoint Balancer::next() {
  const auto now = Clock::now();
  const Address* due_first = nullptr;
  for (std::size_t i = 0; i < addresses_.size(); ++i) {
    auto& address = addresses_[turn_++ % addresses_.size()];
    if (address.health->enter(now)) return address.endpoint;
    if (!due_first || address.health->due() < due_first->health->due()) due_first = &address;
  }
  return due_first->endpoint;
}

void Balancer::set_aside(const Endpoint& endpoint) {
  if (auto* address = find(endpoint)) address->health->unreachable(Clock::now());
  if (Clock::now() - resolved_at_ > options_.ask_again_after) begin_resolving();
}

void Balancer::reached(const Endpoint& endpoint) {
  if (auto* address = find(endpoint)) address->health->connected(Clock::now());
}

void Balancer::report(const Endpoint& endpoint, const core::Result<core::Reply>& result, std::chrono::milliseconds allowed) {
  auto* address = find(endpoint);
  if (!address) return;
  if (result) return address->health->succeeded(Clock::now());
  switch (result.error().kind) {
    case core::ErrorKind::cancelled: return;  // its caller left
    case core::ErrorKind::deadline_exceeded:
      if (allowed < kPatience) return;
      [[fallthrough]];
    case core::ErrorKind::unavailable: break;
    default: return address->health->succeeded(Clock::now());  // it answered
  }
  const auto others = std::count_if(addresses_.begin(), addresses_.end(), [&](auto& other) { return &other != address && other.health->aside(); });
  address->health->failed(Clock::now(), static_cast<std::size_t>(others + 1) * 2 <= addresses_.size());
}

core::awaitable<error_code> connect_within(tcp::socket& socket, tcp::endpoint endpoint, std::chrono::milliseconds limit) {
  using namespace asio::experimental::awaitable_operators;
  asio::steady_timer timer(socket.get_executor(), limit);
  auto connecting = socket.async_connect(endpoint, asio::as_tuple(asio::use_awaitable));
  auto waiting = timer.async_wait(asio::as_tuple(asio::use_awaitable));
  auto first = co_await (std::move(connecting) || std::move(waiting));
  error_code ec = first.index() == 0 ? std::get<0>(std::get<0>(first)) : error_code(asio::error::timed_out);
  error_code ignored;
  if (ec) socket.close(ignored);
  else socket.set_option(tcp::no_delay(true), ignored), socket.non_blocking(true, ignored);
  co_return ec;
}

}  // namespace flexi::runtime::net
