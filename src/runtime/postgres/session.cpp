// SPDX-License-Identifier: Apache-2.0
#include "runtime/postgres/session.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "runtime/postgres/errors.hpp"

namespace flexi::runtime::postgres {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

namespace {
constexpr std::size_t kReadsOfASync = 64;  ///< so many an error can abort
constexpr unsigned kTries = 3;
}

void Call::answer(core::Result<std::vector<Rows>> result) {
  if (answered) return;
  answered = true;
  waiter->complete(std::move(result));
}

Session::Session(asio::any_io_executor executor, ConnectionPtr connection, Owner& owner)
    : executor_(executor), connection_(std::move(connection)), socket_(executor), unsent_(executor, Clock::time_point::max()), owner_(owner) {
  if (PQenterPipelineMode(connection_.get()) != 1) over(to_error("08006", words_of(connection_.get())));
}

core::awaitable<std::optional<core::Error>> Session::serve() {
  using namespace asio::experimental::awaitable_operators;
  boost::system::error_code ec;
  socket_.assign(PQsocket(connection_.get()), ec);
  if (ec) over(to_error("08006", ec.message()));
  if (!over_) co_await (read_all() || write_all());
  socket_.release();
  co_return over_;
}

core::awaitable<void> Session::read_all() {
  while (!over_) {
    boost::system::error_code ec;
    co_await socket_.async_wait(asio::posix::descriptor_base::wait_read, asio::redirect_error(asio::use_awaitable, ec));
    if (ec) co_return;  // cancelled, or over meanwhile
    const bool broken = !PQconsumeInput(connection_.get());
    heard_ = Clock::now();
    take_results();
    if (broken || PQstatus(connection_.get()) != CONNECTION_OK) over(to_error("08006", words_of(connection_.get())));
    if (!over_) owner_.on_room();
  }
}

core::awaitable<void> Session::write_all() {
  while (!over_) {
    boost::system::error_code ec;
    const int unsent = PQflush(connection_.get());
    if (unsent < 0) over(to_error("08006", words_of(connection_.get())));
    else if (unsent > 0) co_await socket_.async_wait(asio::posix::descriptor_base::wait_write, asio::redirect_error(asio::use_awaitable, ec));
    else co_await unsent_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) co_return;
  }
}

void Session::over(core::Error why) {
  if (over_) return;
  over_ = std::move(why);
  unsent_.cancel();
  boost::system::error_code ignored;
  socket_.cancel(ignored);
}

void Session::break_off(core::Error why) { over(std::move(why)); }

void Session::send(CallPtr call) {
  if (expected_.empty()) heard_ = Clock::now();
  const bool alone = call->write || call->again > 0;
  if (alone && unsynced_ > 0) sync();
  ++in_flight_, ++unsynced_;
  auto& sent = *calls_.emplace_back(std::move(call));
  sent.answers.clear(), sent.failure.reset(), sent.aborted = false;
  for (auto& query : sent.queries)
    if (!send_query(query, sent)) return over(to_error("08006", words_of(connection_.get())));
  if (alone || unsynced_ >= kReadsOfASync) sync();
}

bool Session::send_query(const Query& query, Call& call) {
  const auto [place, fresh] = prepared_.try_emplace(query.statement, preparations_ + 1);
  if (fresh) {
    ++preparations_;
    if (!PQsendPrepare(connection_.get(), query.statement->name, query.statement->sql, 0, nullptr)) return false;
    expected_.push_back({Expected::Kind::prepared, &call, query.statement, place->second});
  }
  constexpr std::size_t kMost = 32;
  const char* texts[kMost];
  int lengths[kMost], formats[kMost];
  const auto count = query.values.size();
  if (count > kMost) std::abort();  // a statement of ours
  for (std::size_t i = 0; i < count; ++i) {
    auto& value = query.values[i];
    texts[i] = value.null ? nullptr : value.bytes.c_str();
    lengths[i] = static_cast<int>(value.bytes.size());
    formats[i] = value.binary;
  }
  if (!PQsendQueryPrepared(connection_.get(), query.statement->name, static_cast<int>(count), texts, lengths, formats, 1)) return false;
  expected_.push_back({Expected::Kind::rows, &call, query.statement, place->second});
  return true;
}

void Session::sync() {
  if (!PQpipelineSync(connection_.get())) return over(to_error("08006", words_of(connection_.get())));
  expected_.push_back({Expected::Kind::sync});
  batches_.push_back(unsynced_);
  unsynced_ = 0;
}

void Session::flush() {
  if (over_) return;
  if (unsynced_ > 0) sync();
  const int unsent = PQflush(connection_.get());
  if (unsent < 0) over(to_error("08006", words_of(connection_.get())));
  if (unsent > 0) unsent_.cancel();
}

void Session::take_results() {
  while (!expected_.empty() && !PQisBusy(connection_.get())) {
    auto& expected = expected_.front();
    auto* result = PQgetResult(connection_.get());
    if (!result) {  // the end of one command's results
      if (!expected.got) return;
      expected_.pop_front();
      continue;
    }
    const bool synced = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
    take(result, expected);
    if (!synced) continue;
    expected_.pop_front();
    finish_batch();
    if (stale_) over(to_error("26000", "what was prepared has changed"));
  }
}

void Session::take(PGresult* result, Expected& expected) {
  Rows rows(result);
  const auto status = PQresultStatus(result);
  if (expected.kind == Expected::Kind::sync) return;
  expected.got = true;
  auto& call = *expected.call;
  if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
    if (expected.kind == Expected::Kind::prepared) return void(unpreparable_.erase(expected.statement));
    call.answers.push_back(std::move(rows));
    // A read's answer stands whatever becomes of the batch; a write's only once it is committed.
    if (!call.write && call.answers.size() == call.queries.size()) call.answer(std::move(call.answers));
    return;
  }
  const auto state = sqlstate_of(result);
  // What was to be prepared is not; the next that wants it tries again, unless another has done so since.
  if (expected.kind == Expected::Kind::prepared || state == "26000")
    if (const auto it = prepared_.find(expected.statement); it != prepared_.end() && it->second == expected.preparation) prepared_.erase(it);
  if (status == PGRES_PIPELINE_ABORTED) {
    call.aborted = true;
  } else if (const auto why = unpreparable_.find(expected.statement); state == "26000" && why != unpreparable_.end()) {
    call.failure = why->second;
  } else if (is_stale_statement(state) && call.again < kTries) {
    call.aborted = true;
    stale_ |= state != "26000";
  } else if (!call.failure && !state.empty()) {  // without one it is libpq's own word, of a connection that broke
    call.failure = error_of(result);
    call.missing_object = is_missing_object(state);
    if (expected.kind == Expected::Kind::prepared) unpreparable_.insert_or_assign(expected.statement, *call.failure);
  }
}

void Session::finish_batch() {
  auto count = batches_.front();
  batches_.pop_front();
  while (count-- > 0) {
    auto call = std::move(calls_.front());
    calls_.pop_front();
    --in_flight_;
    owner_.on_ended(*call);
    if (call->failure) call->answer(*call->failure);
    else if (call->aborted && !call->answered) owner_.on_aborted(std::move(call));
    else call->answer(std::move(call->answers));
  }
}

std::chrono::steady_clock::duration Session::silence() const { return expected_.empty() ? Clock::duration::zero() : Clock::now() - heard_; }

bool Session::is_wanted_by_anyone() const {
  for (auto& call : calls_)
    if (call->is_wanted()) return true;
  return calls_.empty();
}

bool Session::is_held_up() const { return !expected_.empty() && expected_.front().call && !expected_.front().call->is_wanted(); }

void Session::expire(core::CallContext::Clock::time_point now) {
  for (auto& call : calls_)
    if (call->deadline <= now) call->answer(cancelled_error(call->write ? core::Sent::maybe : core::Sent::no));
}

std::vector<CallPtr> Session::take_unfinished() {
  std::vector<CallPtr> unfinished;
  for (auto& call : calls_) {
    owner_.on_ended(*call);
    unfinished.push_back(std::move(call));
  }
  calls_.clear();
  in_flight_ = 0;
  return unfinished;
}

}  // namespace flexi::runtime::postgres
