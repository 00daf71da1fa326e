// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "core/transport.hpp"
#include "runtime/shards.hpp"

namespace flexi::conformance {

/// Where transports differ by nature, what one of them does. Each is tested where it is claimed, and its reverse where it is not.
struct Capabilities {
  /// Whose socket callers connect to. Not `own`: serve() opens no port.
  enum class Socket { own, of_a_broker, none };
  Socket socket = Socket::own;
  bool limits_bodies = true;    ///< refuses one byte more than longest_data(); else a body longer than any wire takes goes through
  bool hides_detail = true;     ///< an error's detail stays behind; else it arrives, in the same process
  bool cancels_handler = true;  ///< who leaves ends the handler's work; else it is done all the same, once, and only the caller is free
  bool reaches_others = true;   ///< an endpoint says where the peer is; else there is but one, in this process, whatever it says
};

/// One transport with what it needs, fresh for each test.
class TransportFixture {
 public:
  virtual ~TransportFixture() = default;
  virtual core::Transport& transport() = 0;
  /// Where nobody listens.
  virtual std::string absent_endpoint() = 0;
  /// Serves again where `endpoint` was (a peer that restarts).
  virtual core::Result<std::unique_ptr<core::Server>> serve_at(const std::string& endpoint, core::Handler& handler) = 0;
  /// The longest data of a log entry {"name":"n"} that goes through; asked where bodies are limited.
  virtual std::size_t longest_data() { return 0; }
  /// The message of the answer to a log entry {"name":"n"} that the handler answers with "logged": the contract has
  /// words of its own for some ways.
  virtual std::string logged() { return "logged"; }
  /// What a careless client sends, again and again, without ever reading an answer; asked for in order, of those with an own socket.
  virtual std::string flood() { return {}; }
};

struct TransportUnderTest {
  std::string name;
  std::function<std::unique_ptr<TransportFixture>(runtime::Shards& shards)> make;
  Capabilities can{};
  std::function<std::optional<std::string>()> missing{};  ///< what the test run lacks for it, if it may lack something

  friend void PrintTo(const TransportUnderTest& transport, std::ostream* out) { *out << transport.name; }
};

/// A transport that is not in this list is not tested: every transport is.
const std::vector<TransportUnderTest>& all_transports_under_test();

}  // namespace flexi::conformance
