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

/// One transport with what it needs, fresh for each test.
class TransportFixture {
 public:
  virtual ~TransportFixture() = default;
  virtual core::Transport& transport() = 0;
  /// Where nobody listens.
  virtual std::string absent_endpoint() = 0;
  /// Serves again where `endpoint` was (a peer that restarts).
  virtual core::Result<std::unique_ptr<core::Server>> serve_at(const std::string& endpoint, core::Handler& handler) = 0;
  /// The longest data of a log entry {"name":"n"} that goes through.
  virtual std::size_t longest_data() { return 0; }
  /// The message of the answer to a log entry {"name":"n"} that the handler answers with "logged": the contract has
  /// words of its own for some ways.
  virtual std::string logged() { return "logged"; }
  /// What a careless client sends, again and again, without ever reading an answer; asked for in order.
  virtual std::string flood() { return {}; }
};

struct TransportUnderTest {
  std::string name;
  std::function<std::unique_ptr<TransportFixture>(runtime::Shards& shards)> make;
  std::function<std::optional<std::string>()> missing{};  ///< what the test run lacks for it, if it may lack something

  friend void PrintTo(const TransportUnderTest& transport, std::ostream* out) { *out << transport.name; }
};

/// A transport that is not in this list is not tested: every transport is.
const std::vector<TransportUnderTest>& all_transports_under_test();

/// A promise that a transport can't make, and why. May only get fewer.
struct Waiver {
  std::string transport, test, reason;
};
const std::vector<Waiver>& waivers();

}  // namespace flexi::conformance
