// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/ledger.hpp"
#include "core/log_store.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"
#include "stores/mongo/options.hpp"

namespace flexi::stores::mongo {

/// Log entries in a collection of MongoDB, which other programs may read and write as well; and the ledger of what it stored. See README.md.
/// Lifetime/threads: any thread; outlives its calls; the destructor stores what is queued, where MongoDB is there, and joins
class MongoLogStore : public core::LogStore, public core::LedgerSource {
 public:
  /// Waits for nothing: until MongoDB has been reached, calls are `unavailable`.
  /// @return invalid_argument for a URI that is none
  static core::Result<std::unique_ptr<MongoLogStore>> open(MongoOptions options, runtime::LogSink& log, runtime::Metrics& metrics);

  /// Blocks, for tests and checks of a connection.
  /// @return once MongoDB can be used; why it can't, where that is so when the time is over
  virtual core::Result<void> wait_until_ready(std::chrono::milliseconds time) = 0;
};

}  // namespace flexi::stores::mongo
