// SPDX-License-Identifier: Apache-2.0
#include "runtime/blocking_pool.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace flexi::runtime {

struct BlockingPool::Impl {
  BlockingPoolOptions options;
  mutable std::mutex mutex;
  std::condition_variable wake;
  std::deque<Task> queue;
  bool stopping = false;
  std::vector<std::thread> threads;

  void work() {
    for (;;) {
      std::unique_lock lock(mutex);
      wake.wait(lock, [&] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      Task task = std::move(queue.front());
      queue.pop_front();
      lock.unlock();
      task();
    }
  }
};

BlockingPool::BlockingPool(BlockingPoolOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
  for (unsigned i = 0; i < impl_->options.threads; ++i) impl_->threads.emplace_back([impl = impl_.get()] { impl->work(); });
}

BlockingPool::~BlockingPool() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_all();
  for (auto& thread : impl_->threads) thread.join();
}

bool BlockingPool::submit(Task task) {
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->stopping || impl_->queue.size() >= impl_->options.queue_limit) return false;
    impl_->queue.push_back(std::move(task));
  }
  impl_->wake.notify_one();
  return true;
}

core::Error BlockingPool::busy() const {
  auto error = core::overloaded(impl_->options.name + " is busy, try again later");
  error.retry_after = std::chrono::seconds(1);
  return error;
}

std::size_t BlockingPool::queued() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->queue.size();
}

}  // namespace flexi::runtime
