// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources.
#pragma once

#include "core/transport.hpp"
#include "transports/amqp/replies.hpp"

namespace flexi::transports::amqp {

/// Publishes requests to the queues of their actions. `accepted` is answered when RabbitMQ has confirmed, `stored` by the
/// service, through the reply queue.
class AmqpClient final : public core::Client {
 public:
  AmqpClient(boost::asio::any_io_executor executor, std::unique_ptr<Shared> shared, std::string name);
  ~AmqpClient() override;

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;
  core::awaitable<void> stop(core::StopOptions options) override;

 private:
  core::awaitable<core::Result<core::Reply>> wait_for_stored(Publication publication);

  std::unique_ptr<Shared> shared_;
  Replies replies_;
  Publisher publisher_;
  std::atomic<std::int64_t> waiters_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace flexi::transports::amqp
