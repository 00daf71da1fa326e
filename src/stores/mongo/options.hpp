// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "core/result.hpp"
#include "runtime/options.hpp"

namespace flexi::stores::mongo {

struct MongoOptions {
  std::string uri{};                     ///< mongodb:// or mongodb+srv://, with whatever MongoDB's URIs may say; empty: there is no MongoDB
  std::string database = "logs";         ///< the URI's own database is the one that checks the password
  std::string collection = "logs";       ///< <collection>_ledger and <collection>_repeats stand beside it
  std::int64_t write_connections = 2;    ///< bulk inserts under way at once
  std::int64_t read_connections = 4;     ///< lists, searches and look-ups at once
  std::int64_t batch_entries = 1'000;    ///< entries of one bulk insert
  std::int64_t queue_limit = 20'000;     ///< entries that wait for one; one more is `overloaded`
  std::int64_t queue_bytes = 256 << 20;  ///< what they, and those under way, hold in memory; more is `overloaded`
  std::int64_t read_queue_limit = 1'000;
  std::chrono::milliseconds connect_timeout{2'000};   ///< for one address; also how long an answer to the check may take
  std::chrono::milliseconds select_timeout{2'000};    ///< how long a server that takes writes is looked for
  std::chrono::milliseconds socket_timeout{10'000};   ///< without a byte of an answer the connection is given up
  std::chrono::milliseconds check_interval{1'000};    ///< how often MongoDB is asked whether it is there
  std::chrono::milliseconds retention{0};             ///< older entries are no longer listed, and go; 0 keeps them
  bool text_index = true;                ///< make a text index where the server can; without one, searches read every entry of the time asked for
  // Filled by the composition and by tests, no settings:
  std::chrono::milliseconds housekeeping_interval{10'000};  ///< between looks for what retention removes
  std::chrono::milliseconds abandoned_after{600'000};       ///< a ledger slot that nobody has touched for so long is another's to close
  /// Called when MongoDB can't be used (why, in words that may be shown), and when it can again (no error).
  std::function<void(const core::Error*)> on_health = [](const core::Error*) {};

  bool configured() const { return !uri.empty(); }
  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

}  // namespace flexi::stores::mongo
