// SPDX-License-Identifier: Apache-2.0
#include "transports/inproc/inproc.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <list>
#include <map>
#include <mutex>

namespace flexi::transports::inproc {

namespace asio = boost::asio;
using core::awaitable;

namespace {

constexpr std::string_view kScheme = "inproc:";

/// One call that runs: the signal is emitted on the call's own executor only.
struct RunningCall {
  asio::any_io_executor executor;
  asio::cancellation_signal signal;
};

/// The end of `calls`'s waiter: stop(), or a client's.
struct Waiter {
  asio::any_io_executor executor;
  std::shared_ptr<asio::steady_timer> timer;
};

/// Calls that stop() waits for, cancels and joins. A server and a client each keep their own.
/// Lifetime/threads: any thread
class Gate {
 public:
  /// False once closed.
  bool enter(const std::shared_ptr<RunningCall>& call, std::list<std::shared_ptr<RunningCall>>::iterator& where) {
    std::lock_guard lock(mutex_);
    if (closed_) return false;
    where = calls_.insert(calls_.end(), call);
    return true;
  }
  void leave(std::list<std::shared_ptr<RunningCall>>::iterator where) {
    std::lock_guard lock(mutex_);
    calls_.erase(where);
    if (calls_.empty() && waiter_) asio::post(waiter_->executor, [timer = waiter_->timer] { timer->expires_at(asio::steady_timer::time_point::min()); });
  }
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }
  awaitable<void> drain(std::chrono::milliseconds grace) {
    auto executor = co_await asio::this_coro::executor;
    auto timer = std::make_shared<asio::steady_timer>(executor);
    const auto until = std::chrono::steady_clock::now() + grace;
    bool cancelled = false;
    for (;;) {
      const bool late = std::chrono::steady_clock::now() >= until;
      {
        std::lock_guard lock(mutex_);
        if (calls_.empty()) co_return;
        waiter_ = Waiter{executor, timer};
        if (late && !cancelled) {
          cancelled = true;
          for (auto& call : calls_) asio::post(call->executor, [call] { call->signal.emit(asio::cancellation_type::terminal); });
        }
      }
      // Set before the wait: leave() moves the expiry into the past on this very executor.
      timer->expires_at(cancelled ? asio::steady_timer::time_point::max() : until);
      boost::system::error_code ignored;
      co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
  }

 private:
  std::mutex mutex_;
  bool closed_ = false;
  std::list<std::shared_ptr<RunningCall>> calls_;
  std::optional<Waiter> waiter_;
};

struct Registration {
  explicit Registration(core::Handler& h) : handler(h) {}
  core::Handler& handler;
  Gate gate;
};

}  // namespace

struct Network::Impl {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Registration>, std::less<>> servers;

  std::shared_ptr<Registration> find(const std::string& name) {
    std::lock_guard lock(mutex);
    auto it = servers.find(name);
    return it == servers.end() ? nullptr : it->second;
  }
};

Network::Network() : impl_(std::make_shared<Impl>()) {}
Network::~Network() = default;

namespace {

awaitable<void> run_handler(core::Handler* handler, core::Request request, core::CallContext context, std::optional<core::Result<core::Reply>>* result) {
  try {
    result->emplace(co_await handler->handle(std::move(request), std::move(context)));
  } catch (const boost::system::system_error& e) {
    if (e.code() == asio::error::operation_aborted) co_return;  // unwound by its cancellation
    result->emplace(core::internal("internal error", e.what()));
  } catch (const std::exception& e) {
    result->emplace(core::internal("internal error", e.what()));
  }
}

core::Error stopped(const std::string& name) { return core::unavailable("the service is not running", "no server at inproc:" + name); }

class InprocClient final : public core::Client {
 public:
  InprocClient(std::shared_ptr<Network::Impl> network, std::string name) : network_(std::move(network)), name_(std::move(name)) {}

  awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    if (context.expired()) co_return core::deadline_exceeded("the request's time was over before it was sent");
    auto server = network_->find(name_);
    if (!server) co_return stopped(name_);
    auto call = std::make_shared<RunningCall>();
    call->executor = co_await asio::this_coro::executor;
    std::list<std::shared_ptr<RunningCall>>::iterator at_client, at_server;
    if (!gate_->enter(call, at_client)) co_return core::unavailable("the client has stopped");
    if (!server->gate.enter(call, at_server)) {
      gate_->leave(at_client);
      co_return stopped(name_);
    }
    auto result = co_await run(*server, *call, std::move(request), context);
    server->gate.leave(at_server);
    gate_->leave(at_client);
    co_return result;
  }

  awaitable<void> stop(core::StopOptions options) override {
    gate_->close();
    co_await gate_->drain(options.grace);
  }

 private:
  /// The handler gets a cancellation signal of its own: both its caller and a stop() may cancel it.
  static awaitable<core::Result<core::Reply>> run(Registration& server, RunningCall& call, core::Request request, core::CallContext context) {
    auto parent = (co_await asio::this_coro::cancellation_state).slot();
    if (parent.is_connected()) parent.assign([&call](asio::cancellation_type type) { call.signal.emit(type); });
    std::optional<core::Result<core::Reply>> result;
    auto task = run_handler(&server.handler, std::move(request), context, &result);
    try {
      co_await asio::co_spawn(call.executor, std::move(task), asio::bind_cancellation_slot(call.signal.slot(), asio::use_awaitable));
    } catch (const std::exception& e) {
      if (!result) result.emplace(core::internal("internal error", e.what()));
    }
    if (parent.is_connected()) parent.clear();
    if (result) {
      if (!*result) result->error().answered = true;
      co_return std::move(*result);
    }
    auto error = context.expired() ? core::deadline_exceeded("the request was not answered in time") : core::cancelled("the request was cancelled");
    error.sent = core::Sent::maybe;
    co_return error;
  }

  std::shared_ptr<Network::Impl> network_;
  std::string name_;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

class InprocServer final : public core::Server {
 public:
  InprocServer(std::shared_ptr<Network::Impl> network, std::string name, std::shared_ptr<Registration> registration)
      : network_(std::move(network)), name_(std::move(name)), registration_(std::move(registration)) {}

  std::string endpoint() const override { return std::string(kScheme) + name_; }

  awaitable<void> stop(core::StopOptions options) override {
    registration_->gate.close();
    {
      std::lock_guard lock(network_->mutex);
      network_->servers.erase(name_);
    }
    co_await registration_->gate.drain(options.grace);
  }

 private:
  std::shared_ptr<Network::Impl> network_;
  std::string name_;
  std::shared_ptr<Registration> registration_;
};

class InprocTransport final : public core::Transport {
 public:
  InprocTransport(std::shared_ptr<Network::Impl> network, InprocOptions options) : network_(std::move(network)), options_(std::move(options)) {}

  core::Via via() const override { return core::Via::inproc; }

  core::Result<std::unique_ptr<core::Server>> serve(core::Handler& handler) override {
    auto registration = std::make_shared<Registration>(handler);
    {
      std::lock_guard lock(network_->mutex);
      if (!network_->servers.emplace(options_.name, registration).second)
        return core::unavailable("inproc:" + options_.name + " is in use: another server of this process has that name");
    }
    return std::unique_ptr<core::Server>(std::make_unique<InprocServer>(network_, options_.name, std::move(registration)));
  }

  core::Result<std::unique_ptr<core::Client>> connect(std::string endpoint) override {
    if (!endpoint.starts_with(kScheme) || endpoint.size() == kScheme.size())
      return core::invalid_argument("an in-process endpoint is inproc:<name>, not \"" + endpoint + "\"");
    return std::unique_ptr<core::Client>(std::make_unique<InprocClient>(network_, endpoint.substr(kScheme.size())));
  }

 private:
  std::shared_ptr<Network::Impl> network_;
  InprocOptions options_;
};

}  // namespace

std::unique_ptr<core::Transport> make_transport(Network& network, InprocOptions options) {
  return std::make_unique<InprocTransport>(network.impl(), std::move(options));
}

}  // namespace flexi::transports::inproc
