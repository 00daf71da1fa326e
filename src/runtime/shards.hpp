// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <vector>

namespace flexi::runtime {

/// One io_context and one thread per core; what belongs to a shard (its acceptors, its connections) is touched by its
/// thread only, so the hot path shares nothing.
/// Lifetime/threads: made and joined on the main thread. Everything spawned on a shard has ended before join(), and every
/// thread that posts to one (a pool's, a database's) before it is destroyed: an answer may run while its post returns.
class Shards {
 public:
  /// @param count 1 to 64
  explicit Shards(unsigned count);
  ~Shards();  ///< joins

  unsigned size() const;
  boost::asio::any_io_executor executor(unsigned shard) const;
  /// The shard whose thread calls; 0 on any other thread.
  static unsigned current();
  /// Runs `work` on shard 0 and blocks the calling (main or test) thread until it has ended. An exception comes through.
  void run(boost::asio::awaitable<void> work);
  /// Releases the threads and waits for them: each ends when nothing is left to do on it. Not io_context::stop().
  void join();

 private:
  struct Shard;
  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace flexi::runtime
