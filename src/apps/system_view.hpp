// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <mutex>
#include <string>
#include <vector>

#include "apps/process.hpp"
#include "apps/queueing.hpp"
#include "apps/role.hpp"
#include "apps/storage.hpp"
#include "runtime/task_scope.hpp"
#include "services/broker/way_board.hpp"
#include "services/system/system_service.hpp"

namespace flexi::apps {

/// What `GET /system` shows of this process, put together from its parts.
/// Lifetime/threads: outlives the broker; start() once everything is made, stop() before it is destroyed
class SystemView {
 public:
  SystemView(const Settings& settings, const RoleTraits& role, Process& process, Storage& storage);

  /// Given to the broker, which tells it of its ways.
  services::broker::WayBoard& board() { return board_; }
  /// Answers system.get.
  core::Handler& handler() { return service_; }
  /// An address that this process listens on.
  void listens(core::Via via, std::string endpoint);
  /// The queue of this process, once it is open.
  void shows(Queueing& queueing) { queueing_ = &queueing; }
  /// Takes a sample of all figures every second.
  void start();
  core::awaitable<void> stop();

 private:
  std::vector<services::system::SystemPart> parts();
  core::awaitable<void> sample();
  std::string listening_json() const;
  std::string peers_json() const;
  std::string stores_json() const;
  core::awaitable<core::Result<std::string>> queue_json(core::CallContext context);
  core::awaitable<core::Result<std::string>> embedded_json(core::CallContext context);
  core::awaitable<core::Result<std::string>> rabbitmq_json(core::CallContext context);

  const Settings& settings_;
  Process& process_;
  Storage& storage_;
  Queueing* queueing_ = nullptr;
  services::broker::WayBoard board_;
  services::system::SystemService service_;
  runtime::TaskScope scope_;
  boost::asio::steady_timer tick_;
  bool stopping_ = false;
  mutable std::mutex mutex_;
  std::vector<std::pair<core::Via, std::string>> listening_;
};

}  // namespace flexi::apps
