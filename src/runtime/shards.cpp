// SPDX-License-Identifier: Apache-2.0
#include "runtime/shards.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <optional>
#include <thread>

namespace flexi::runtime {

namespace asio = boost::asio;

namespace {
// The one thread-local of the runtime: which shard this thread runs. Asking the executor instead costs a locked look-up.
thread_local unsigned current_shard = 0;
}  // namespace

struct Shards::Shard {
  asio::io_context io{1};  // 1: only its own thread runs it
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work{io.get_executor()};
  std::thread thread;
};

Shards::Shards(unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    auto shard = std::make_unique<Shard>();
    shard->thread = std::thread([io = &shard->io, i] {
      current_shard = i;
      io->run();
    });
    shards_.push_back(std::move(shard));
  }
}

Shards::~Shards() { join(); }

unsigned Shards::size() const { return static_cast<unsigned>(shards_.size()); }

asio::any_io_executor Shards::executor(unsigned shard) const { return shards_.at(shard)->io.get_executor(); }

unsigned Shards::current() { return current_shard; }

void Shards::run(asio::awaitable<void> work) { asio::co_spawn(executor(0), std::move(work), asio::use_future).get(); }

void Shards::join() {
  for (auto& shard : shards_) shard->work.reset();
  for (auto& shard : shards_)
    if (shard->thread.joinable()) shard->thread.join();
}

}  // namespace flexi::runtime
