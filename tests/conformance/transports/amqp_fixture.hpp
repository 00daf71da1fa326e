// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transports.hpp"

namespace flexi::conformance {

/// RabbitMQ as transport, in a virtual host of the test's own. Null where there is no RabbitMQ.
std::unique_ptr<TransportFixture> make_amqp_fixture(runtime::Shards& shards);
/// Why it can't be tested here; none: it can.
std::optional<std::string> missing_rabbitmq();

}  // namespace flexi::conformance
