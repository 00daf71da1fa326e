// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources: it includes libpq's header.
#pragma once

#include "runtime/postgres/database.hpp"
#include "runtime/postgres/session.hpp"
#include "runtime/task_scope.hpp"

namespace flexi::runtime::postgres {

/// The pool behind a Database. Two lanes, one for reads and one for writes, each with its queue and its connections.
/// Lifetime/threads: home's thread, but for call()
class Database::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(PostgresOptions options, boost::asio::any_io_executor home, LogSink& log, Metrics& metrics, std::function<void(const core::Error*)> on_health);

  void add(Schema schema) { schemas_.push_back(std::move(schema)); }
  void start();
  core::awaitable<void> stop();
  static core::awaitable<core::Result<std::vector<Rows>>> call(std::shared_ptr<Impl> self, std::vector<Query> queries, bool write,
                                                               core::CallContext context);
  std::size_t writes_under_way() const { return writes_.under_way; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Slot;
  struct Lane {
    const char* name;
    std::deque<CallPtr> queue{};
    std::size_t under_way = 0;             ///< waiting or in flight
    std::vector<std::unique_ptr<Slot>> slots{};
    std::optional<core::Error> down{};     ///< no connection, and the last attempt at one failed
    bool pump_posted = false, ever_connected = false;
  };
  /// The place of one connection.
  struct Slot final : Session::Owner {
    Slot(Impl& owner, Lane& of, std::size_t place) : impl(owner), lane(of), number(place), wake(owner.home_, Clock::time_point::max()) {}
    void on_ended(Call& call) override;
    void on_aborted(CallPtr call) override;
    void on_room() override;
    void want();

    Impl& impl;
    Lane& lane;
    const std::size_t number;
    boost::asio::steady_timer wake;
    bool wanted = false;
    Clock::time_point not_before{};  ///< after a failed attempt
    std::unique_ptr<Session> session;
  };
  void submit(CallPtr call);
  void schedule(Lane& lane);
  void pump(Lane& lane);
  void want_another(Lane& lane);
  void refuse_waiting(Lane& lane, const core::Error& why);
  void prune(Lane& lane, Clock::time_point now);
  void watch_over(Lane& lane, Clock::time_point now);
  void on_opened(Slot& slot);
  void on_open_failed(Slot& slot, const core::Error& why);
  void on_lost(Slot& slot, const std::optional<core::Error>& why);
  void tell_health();
  std::optional<core::Error> unusable() const;

  core::awaitable<void> keep(Slot& slot);
  core::awaitable<void> keep_schemas();
  core::awaitable<void> tick();
  core::awaitable<void> keep_up();
  core::awaitable<void> pause_before_retry(std::chrono::milliseconds& delay, bool refused_login);

  PostgresOptions options_;
  boost::asio::any_io_executor home_;
  LogSink& log_;
  std::function<void(const core::Error*)> on_health_;
  Metrics::Gauge connections_;
  Metrics::Counter failures_, refusals_;
  std::vector<Schema> schemas_;
  Lane reads_{"reads"}, writes_{"writes"};
  TaskScope scope_;
  boost::asio::steady_timer busy_;     ///< cancelled when there is something to watch over
  boost::asio::steady_timer recheck_;  ///< cancelled when the schemas must be looked at again
  bool schemas_ready_ = false, stopping_ = false;
  std::optional<core::Error> schemas_failed_;  ///< why not, since the last attempt
  std::optional<std::string> health_told_;     ///< the last word to on_health_; "" is well
};

}  // namespace flexi::runtime::postgres
