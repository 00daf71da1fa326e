// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources: it includes libpq's header.
#pragma once

#include <deque>
#include <functional>
#include <set>

#include "core/call_context.hpp"
#include "runtime/completion.hpp"
#include "runtime/postgres/plain_connection.hpp"

namespace flexi::runtime::postgres {

/// One call on its way: a read, or a write of one or more statements.
struct Call {
  std::vector<Query> queries;
  bool write = false;
  unsigned again = 0;  ///< how often it was sent again (another's error aborted it, or it was not prepared): then with a sync of its own
  core::CallContext::Clock::time_point deadline{};
  std::shared_ptr<Completion<std::vector<Rows>>> waiter;
  std::shared_ptr<std::atomic<bool>> left;  ///< the caller has: nobody wants the answer
  std::vector<Rows> answers{};
  std::optional<core::Error> failure{};
  bool aborted = false;         ///< not by a failure of its own
  bool missing_object = false;  ///< a table or column is not there

  bool is_wanted() const { return !*left && !answered; }
  bool answered = false;
  void answer(core::Result<std::vector<Rows>> result);
};
using CallPtr = std::unique_ptr<Call>;

/// A connection in pipeline mode. Reads of one turn share a PQpipelineSync; an error aborts those behind it, which the owner sends again, each
/// alone. A write has a sync of its own, and is one transaction. Source: PostgreSQL manual, 34.5 (pipeline mode)
/// Lifetime/threads: one executor's thread
class Session {
 public:
  struct Owner {
    virtual ~Owner() = default;
    virtual void on_ended(Call& call) = 0;      ///< the server has answered; the caller not yet
    virtual void on_aborted(CallPtr call) = 0;  ///< nothing of it was done: send it again, alone
    virtual void on_room() = 0;                 ///< there is room for more
  };
  Session(boost::asio::any_io_executor executor, ConnectionPtr connection, Owner& owner);

  /// Until the connection breaks, or break_off(). @return why; none: the coroutine was cancelled
  core::awaitable<std::optional<core::Error>> serve();
  void send(CallPtr call);
  /// Ends the turn: what was sent leaves.
  void flush();
  void break_off(core::Error why);
  bool is_over() const { return over_.has_value(); }

  std::size_t in_flight() const { return in_flight_; }
  /// Since when the server has owed an answer and said nothing.
  std::chrono::steady_clock::duration silence() const;
  bool is_wanted_by_anyone() const;
  /// Nobody waits for what the server is at: it holds up those behind it.
  bool is_held_up() const;
  /// Answers those whose deadline has passed; they stay in flight.
  void expire(core::CallContext::Clock::time_point now);
  /// Of a session that is over: what it had not answered.
  std::vector<CallPtr> take_unfinished();

 private:
  struct Expected {
    enum class Kind { prepared, rows, sync } kind;
    Call* call = nullptr;
    const Statement* statement = nullptr;
    std::uint64_t preparation = 0;  ///< which one it is, or relies on
    bool got = false;
  };
  core::awaitable<void> read_all();
  core::awaitable<void> write_all();
  bool send_query(const Query& query, Call& call);
  void sync();
  void take_results();
  void take(PGresult* result, Expected& expected);
  void finish_batch();
  void over(core::Error why);

  boost::asio::any_io_executor executor_;
  ConnectionPtr connection_;
  boost::asio::posix::stream_descriptor socket_;
  boost::asio::steady_timer unsent_;  ///< cancelled when there is something that the socket would not take
  Owner& owner_;
  std::map<const Statement*, std::uint64_t> prepared_;  ///< those that are, or are being, and by which preparation
  std::uint64_t preparations_ = 0;
  std::map<const Statement*, core::Error> unpreparable_;  ///< why, at the last attempt; those sent behind it meet a statement that is not there
  std::deque<Expected> expected_;
  std::deque<CallPtr> calls_;  ///< in flight, in order
  std::size_t in_flight_ = 0;
  std::size_t unsynced_ = 0;   ///< reads sent in this turn
  std::deque<std::size_t> batches_;  ///< calls of each sync under way
  std::optional<core::Error> over_;
  bool stale_ = false;
  std::chrono::steady_clock::time_point heard_{};
};

}  // namespace flexi::runtime::postgres
