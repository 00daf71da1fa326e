// SPDX-License-Identifier: Apache-2.0
#include "runtime/net/balancer.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>

namespace flexi::runtime::net {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

Balancer::Balancer(runtime::TaskScope& scope, BalancerOptions options, Authority peer) : scope_(scope), options_(options), peer_(std::move(peer)) {
  error_code ec;
  const auto address = asio::ip::make_address(peer_.host, ec);
  if (ec) return;
  literal_ = true;
  addresses_.push_back({Endpoint(address, peer_.port)});
}

core::awaitable<core::Result<void>> Balancer::ready() {
  const bool stale = !literal_ && Clock::now() - resolved_at_ > options_.resolve_interval;
  if (stale && !resolving_) {
    resolving_ = true;
    scope_.spawn(resolve());
  }
  if (!addresses_.empty()) co_return core::ok();
  auto start = [this](std::shared_ptr<runtime::Completion<void>> completion) { waiting_.push_back(std::move(completion)); };
  co_return co_await runtime::wait_for_completion<void>(std::move(start), runtime::cancelled_error(core::Sent::no));
}

core::awaitable<std::vector<Balancer::Endpoint>> Balancer::look_up(std::string name) {
  tcp::resolver resolver(scope_.executor());
  error_code ec;
  auto results = co_await resolver.async_resolve(name, std::to_string(peer_.port), asio::redirect_error(asio::use_awaitable, ec));
  std::vector<Endpoint> found;
  if (!ec)
    for (auto& result : results) found.push_back(result.endpoint());
  co_return found;
}

core::awaitable<void> Balancer::resolve() {
  co_await asio::this_coro::throw_if_cancelled(false);
  replace(co_await look_up(peer_.host));
  const auto waiting = std::exchange(waiting_, {});
  for (auto& completion : waiting) {
    if (addresses_.empty()) completion->complete(core::unavailable("the service can't be found", "no address for " + peer_.host));
    else completion->complete(core::ok());
  }
  // In a swarm the name itself is one virtual address; its tasks have one each.
  if (peer_.host.find('.') == std::string::npos && peer_.host != "localhost")
    if (auto tasks = co_await look_up("tasks." + peer_.host); !tasks.empty()) replace(tasks);
  resolved_at_ = Clock::now();
  if (addresses_.empty()) resolved_at_ = {};
  resolving_ = false;
}

void Balancer::replace(const std::vector<Endpoint>& found) {
  if (found.empty()) return;  // a name server that fails for a moment doesn't make the peer unreachable
  std::vector<Address> fresh;
  for (auto& endpoint : found) {
    Address address{endpoint};
    for (auto& known : addresses_)
      if (known.endpoint == endpoint) address = known;
    fresh.push_back(address);
  }
  addresses_ = std::move(fresh);
}

Balancer::Endpoint Balancer::next() {
  const auto now = Clock::now();
  const Address* due_first = nullptr;
  for (std::size_t i = 0; i < addresses_.size(); ++i) {
    auto& address = addresses_[turn_++ % addresses_.size()];
    if (address.aside_until <= now) return address.endpoint;
    if (!due_first || address.aside_until < due_first->aside_until) due_first = &address;
  }
  return due_first->endpoint;
}

void Balancer::set_aside(const Endpoint& endpoint) {
  for (auto& address : addresses_)
    if (address.endpoint == endpoint) address.aside_until = Clock::now() + options_.set_aside;
}

void Balancer::reached(const Endpoint& endpoint) {
  for (auto& address : addresses_)
    if (address.endpoint == endpoint) address.aside_until = {};
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
