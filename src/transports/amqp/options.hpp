// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "runtime/options.hpp"

namespace flexi::transports::amqp {

struct AmqpOptions {
  std::string url{};                       ///< amqp://user:password@host:port/vhost, over TLS amqps://; empty: there is no RabbitMQ
  std::string tls_ca_file{};               ///< PEM; whose certificates are believed; empty: the system's
  std::string tls_certificate_file{};      ///< PEM chain shown to RabbitMQ
  std::string tls_key_file{};              ///< PEM key of it
  bool tls_verify = true;                  ///< check RabbitMQ's certificate and its host name
  std::string prefix{};                    ///< stands before every exchange and queue name: several systems in one virtual host
  std::int64_t prefetch = 200;             ///< messages of one queue taken and not yet finished, per process; all their bodies are in memory
  std::int64_t concurrency = 64;           ///< messages of one queue handled at once, per process; 1 keeps the queue's order
  std::int64_t confirm_window = 1'000;     ///< messages sent and not yet confirmed
  std::int64_t max_waiting = 20'000;       ///< publishes under way, waiting or unconfirmed; one more is `overloaded`
  std::int64_t max_waiting_bytes = 64 << 20;  ///< their bodies
  std::int64_t max_body_bytes = 4 << 20;   ///< larger messages are refused, and dead-lettered when they come from elsewhere
  std::int64_t max_waiters = 10'000;       ///< callers that wait for `stored`; one more is `overloaded`
  std::int64_t max_transient = 10'000;     ///< log-ins that RabbitMQ holds (flexi.logins); part of the queue: once it is there, another number takes it out of order
  std::int64_t retry_steps = 4;            ///< retry queues per queue, with growing delays; the last one serves all further attempts
  std::chrono::milliseconds retry_delay{1'000};  ///< before the second attempt; names the retry queue, so it may be changed freely
  double retry_factor = 5;                 ///< growth of the delay from step to step
  std::int64_t max_attempts = 8;           ///< failures after which a message is dead-lettered; those where nobody took it don't count
  std::int64_t delivery_limit = 20;        ///< deliveries without an answer (crashes) after which RabbitMQ dead-letters; part of the queues: with another number those that are there are out of order
  std::chrono::milliseconds attempt_timeout{30'000};   ///< what one attempt may take
  std::chrono::milliseconds max_wait{300'000};         ///< how long a caller without a deadline waits
  std::chrono::milliseconds request_timeout{10'000};   ///< of a request from flexi.requests that names none
  std::chrono::milliseconds max_request_timeout{60'000};  ///< cap of what it names
  std::chrono::milliseconds heartbeat{10'000};         ///< twice this long without a byte and the connection is given up
  std::chrono::milliseconds connect_timeout{2'000};    ///< for one address
  std::chrono::milliseconds handshake_timeout{5'000};  ///< TLS and login
  std::chrono::milliseconds reconnect_delay{100};      ///< grows to the next, with jitter
  std::chrono::milliseconds max_reconnect_delay{5'000};
  std::chrono::milliseconds reconnect_patience{1'000};  ///< how long publishes wait while the connection is being made again
  std::chrono::milliseconds listener_patience{1'000};   ///< how long `stored` waits for a listener before it is `unavailable`
  std::chrono::milliseconds recheck{10'000};            ///< how often what stands in the way of a queue (other arguments) is looked at again
  std::int64_t browse_messages = 10'000;   ///< dead letters of one queue looked at for a list
  std::int64_t browse_bytes = 64 << 20;    ///< and their bodies
  // Filled by the composition and by tests, no settings:
  std::chrono::milliseconds aside_pause{500};  ///< before a failed message that could not be put aside is put aside again; grows
  std::vector<std::string> actions{};      ///< actions of the user's own, each with its queue
  std::vector<std::string> consumed_elsewhere{};  ///< those of them whose queue a consumer of the user's own takes: no listener does

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
  /// The pause before attempt `failures + 1`: the delay of its retry queue.
  std::chrono::milliseconds delay_of_step(std::int64_t step) const;
};

/// Where RabbitMQ is and how to sign in.
struct Endpoint {
  std::string host;
  std::uint16_t port = 5672;
  bool tls = false;
  std::string user, password, vhost = "/";
  bool has_login = false;  ///< the URL named user and password

  /// "host:port": what messages and logs say.
  std::string authority() const;
  /// The URL without user and password.
  std::string str() const;
};

/// @return invalid_argument that says what would be right, without repeating the password
core::Result<Endpoint> parse_url(std::string_view url);

}  // namespace flexi::transports::amqp
