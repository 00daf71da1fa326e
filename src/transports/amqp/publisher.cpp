// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/publisher.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using core::Reply;
using core::Result;
using core::Sent;
using Clock = core::CallContext::Clock;

namespace {

constexpr std::size_t kHighWater = 512 * 1024;  ///< bytes before the socket: more would only wait there
constexpr auto kTick = std::chrono::milliseconds(25);

core::Error with_sent(core::Error error, bool sent) {
  error.sent = sent ? Sent::maybe : Sent::no;
  return error;
}

core::Error overloaded(std::string message) {
  auto error = core::overloaded(std::move(message));
  error.retry_after = std::chrono::seconds(1);
  return error;
}

}  // namespace

Publisher::Publisher(asio::any_io_executor executor, Shared& shared, std::string name, PublisherGuest* guest)
    : shared_(shared), guest_(guest), scope_(executor, "RabbitMQ publisher", shared.log), ticker_(executor),
      session_(executor, shared, std::move(name), *this) {}

Publisher::~Publisher() = default;

Result<void> Publisher::reserve(std::size_t bytes) {
  const bool many = entries_.fetch_add(1) >= shared_.options.max_waiting;
  const bool large = bytes_.fetch_add(static_cast<std::int64_t>(bytes)) + static_cast<std::int64_t>(bytes) > shared_.options.max_waiting_bytes;
  if (!many && !large && !stopping_) return core::ok();
  entries_.fetch_sub(1);
  bytes_.fetch_sub(static_cast<std::int64_t>(bytes));
  if (stopping_) return core::unavailable("the service is stopping");
  return overloaded("too many messages wait for RabbitMQ");
}

core::awaitable<Result<Reply>> Publisher::publish(Publication publication, std::function<void(const Waiter&)> announce) {
  auto room = reserve(publication.message.body.size());
  if (!room) co_return room.error();
  auto entry = std::make_unique<Entry>();
  entry->bytes = publication.message.body.size();
  entry->publication = std::move(publication);
  if (!entry->publication.fate) entry->publication.fate = std::make_shared<Fate>();
  auto fate = entry->publication.fate;
  auto start = [this, &entry, &announce](Waiter waiter) {
    if (announce) announce(waiter);
    entry->waiter = std::move(waiter);
    submit(std::move(entry));
  };
  auto result = co_await runtime::wait_for_completion<Reply>(std::move(start), runtime::cancelled_error(Sent::maybe));
  fate->left = true;
  co_return result;
}

void Publisher::post(Publication publication) {
  if (!reserve(publication.message.body.size())) return;
  auto entry = std::make_unique<Entry>();
  entry->bytes = publication.message.body.size();
  entry->publication = std::move(publication);
  entry->publication.fate = std::make_shared<Fate>();
  submit(std::move(entry));
}

/// One post for all that come until it runs.
void Publisher::submit(std::unique_ptr<Entry> entry) {
  bool first = false;
  {
    std::lock_guard lock(inbox_mutex_);
    first = inbox_.empty();
    inbox_.push_back(std::move(entry));
  }
  if (first) asio::post(executor(), [this] { take_inbox(); });
}

void Publisher::take_inbox() {
  std::vector<std::unique_ptr<Entry>> taken;
  {
    std::lock_guard lock(inbox_mutex_);
    taken.swap(inbox_);
  }
  for (auto& entry : taken) {
    if (state_ == State::down || blocked_) {
      answer(*entry, unavailable_now());
      entries_.fetch_sub(1);
      bytes_.fetch_sub(static_cast<std::int64_t>(entry->bytes));
    } else {
      queue_.push_back(std::move(entry));
    }
  }
  if (!ticking_ && !stopping_) {
    ticking_ = true;
    scope_.spawn(tick());
  }
  pump();
  flush_answers();
}

core::Error Publisher::unavailable_now() const {
  if (blocked_ && connection_) return core::unavailable("RabbitMQ takes no messages at the moment", connection_->blocked());
  return core::unavailable(last_failure_.message, last_failure_.detail);
}

void Publisher::pump() {
  if (!up_ || blocked_ || !connection_) return;
  while (!queue_.empty() && window_.size() < static_cast<std::size_t>(shared_.options.confirm_window) && connection_->buffered() < kHighWater) {
    auto entry = std::move(queue_.front());
    queue_.pop_front();
    if (send(*entry)) {
      window_.push_back(std::move(entry));
    } else {
      entries_.fetch_sub(1);
      bytes_.fetch_sub(static_cast<std::int64_t>(entry->bytes));
    }
  }
}

/// @return false where it was answered instead
bool Publisher::send(Entry& entry) {
  auto& p = entry.publication;
  if (entry.answered || p.fate->left) return false;
  if (p.deadline <= Clock::now()) {
    answer(entry, runtime::cancelled_error(entry.sent ? Sent::maybe : Sent::no));
    return false;
  }
  if (p.work)
    if (auto* problem = shared_.topology.problem_of(*p.work, problems_)) {
      answer(entry, with_sent(core::unavailable("RabbitMQ's queue for this can't be used at the moment", *problem), entry.sent));
      return false;
    }
  if (p.wants_reply) p.message.reply_to = guest_->reply_queue();
  auto sent = connection_->publish(kChannel, p.exchange, p.routing_key, p.mandatory, p.message);
  if (!sent) {
    answer(entry, with_sent(sent.error(), entry.sent));
    return false;
  }
  entry.sent = true;
  if (p.counted) shared_.teller.tell({EventKind::published, p.message.type, p.message.message_id});
  return true;
}

void Publisher::answer(Entry& entry, Result<Reply> result) {
  if (std::exchange(entry.answered, true) || !entry.waiter) return;
  answers_.emplace_back(std::move(entry.waiter), std::move(result));
}

/// Answers to callers of one shard go there in one post.
void Publisher::flush_answers() {
  while (!answers_.empty()) {
    auto all = std::exchange(answers_, {});
    while (!all.empty()) {
      const auto executor = all.front().first->executor();
      std::vector<std::pair<Waiter, Result<Reply>>> theirs, others;
      for (auto& one : all) (one.first->executor() == executor ? theirs : others).push_back(std::move(one));
      asio::post(executor, [theirs = std::move(theirs)]() mutable {
        for (auto& [waiter, result] : theirs) waiter->resolve(std::move(result));
      });
      all = std::move(others);
    }
  }
}

void Publisher::settle(Entry& entry, bool ack) {
  if (std::exchange(entry.finished, true)) return;
  auto& p = entry.publication;
  if (entry.returned) return;
  if (ack) {
    p.fate->confirmed = true;
    if (p.counted) shared_.teller.tell({EventKind::confirmed, p.message.type, p.message.message_id});
    if (!p.wants_reply) answer(entry, Reply{});
  } else {
    if (p.counted) shared_.teller.tell({EventKind::nacked, p.message.type, p.message.message_id});
    answer(entry, core::unavailable("RabbitMQ refused the message", "nack: the queue is full or has no leader"));
  }
}

void Publisher::on_confirm(std::uint64_t tag, bool multiple, bool ack) {
  if (tag < first_tag_ || tag - first_tag_ >= window_.size()) return;
  const auto last = tag - first_tag_;
  for (auto i = multiple ? 0 : last; i <= last; ++i) settle(*window_[i], ack);
  while (!window_.empty() && window_.front()->finished) {
    entries_.fetch_sub(1);
    bytes_.fetch_sub(static_cast<std::int64_t>(window_.front()->bytes));
    window_.pop_front();
    ++first_tag_;
  }
}

/// RabbitMQ returns what no queue takes before it acknowledges it. Source: https://www.rabbitmq.com/confirms.html
void Publisher::on_return(std::uint16_t code, std::string text, std::string routing_key, Message message) {
  session_.declare_again();  // what we publish to is declared: its queue or binding was removed
  for (auto& entry : window_) {
    auto& p = entry->publication;
    if (entry->finished || entry->returned || p.message.message_id != message.message_id || p.routing_key != routing_key) continue;
    if (p.counted) shared_.teller.tell({EventKind::returned, p.message.type, p.message.message_id});
    entry->returned = true;
    answer(*entry, core::unavailable("no queue takes it", std::to_string(code) + " " + text + ": " + p.exchange + " " + routing_key));
    return;
  }
}

void Publisher::on_channel_closed(const MethodReply& refusal) {
  if (connection_) connection_->fail(core::unavailable("RabbitMQ closed the channel", refusal.text));
}

void Publisher::on_batch_end() {
  pump();
  flush_answers();
}

void Publisher::on_blocked(std::string reason) {
  blocked_ = true;
  trouble_since_ = Clock::now();
  shared_.log.warning("RabbitMQ takes no messages", {{"reason", reason}});
  fail_queued(unavailable_now());
  flush_answers();
}

void Publisher::on_unblocked() {
  blocked_ = false;
  shared_.log.info("RabbitMQ takes messages again");
  pump();
}

void Publisher::fail_queued(const core::Error& why) {
  for (auto& entry : std::exchange(queue_, {})) {
    answer(*entry, with_sent(why, entry->sent));
    entries_.fetch_sub(1);
    bytes_.fetch_sub(static_cast<std::int64_t>(entry->bytes));
  }
}

core::awaitable<Result<void>> Publisher::on_connected(Connection& connection, const Problems& problems) {
  auto opened = co_await connection.open_channel(kChannel, this);
  if (!opened) co_return opened.error();
  amqp_confirm_select_t select{0};
  auto selected = co_await connection.call(kChannel, AMQP_CONFIRM_SELECT_METHOD, &select);
  if (!selected) co_return selected.error();
  if (selected.value().refused()) co_return core::unavailable("RabbitMQ gives no confirms", selected.value().text);
  if (guest_) {
    auto guest = co_await guest_->on_connected(connection);
    if (!guest) co_return guest.error();
  }
  connection.set_user(this);
  connection_ = &connection;
  problems_ = problems;
  blocked_ = !connection.blocked().empty();
  co_return core::ok();
}

void Publisher::on_up() {
  up_ = true;
  state_ = State::up;
  first_tag_ = 1;
  pump();
  flush_answers();
}

void Publisher::on_down(const core::Error& why, bool was_up) {
  up_ = false;
  blocked_ = false;
  connection_ = nullptr;
  last_failure_ = why;
  if (guest_) guest_->on_down();
  // Those first in the window were first: they keep their place before what was not sent yet.
  while (!window_.empty()) {
    auto entry = std::move(window_.back());
    window_.pop_back();
    if (entry->finished || entry->answered || entry->publication.fate->left) {
      entries_.fetch_sub(1);
      bytes_.fetch_sub(static_cast<std::int64_t>(entry->bytes));
    } else {
      queue_.push_front(std::move(entry));
    }
  }
  if (was_up && !stopping_) {
    state_ = State::connecting;
    trouble_since_ = Clock::now();
  } else {
    state_ = State::down;
    fail_queued(unavailable_now());
  }
  flush_answers();
}

core::awaitable<void> Publisher::on_problems(const Problems& problems) {
  problems_ = problems;
  co_return;
}

/// Deadlines, and patience with a connection that is gone or blocked. One timer for all; it rests while there is nothing.
core::awaitable<void> Publisher::tick() {
  co_await asio::this_coro::throw_if_cancelled(false);
  while (!idle() || (guest_ && guest_->busy())) {
    ticker_.expires_after(kTick);
    boost::system::error_code ignored;
    co_await ticker_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    const auto now = Clock::now();
    const bool impatient = trouble_since_ != Clock::time_point{} && now - trouble_since_ > shared_.options.reconnect_patience;
    if (state_ == State::connecting && impatient) {
      state_ = State::down;
      fail_queued(unavailable_now());
    }
    if (state_ == State::up && !blocked_) trouble_since_ = {};
    for (auto* entries : {&queue_, &window_})
      for (auto& entry : *entries) {
        if (entry->answered) continue;
        if (entry->publication.deadline <= now) answer(*entry, runtime::cancelled_error(entry->sent ? Sent::maybe : Sent::no));
        else if (blocked_ && impatient) answer(*entry, with_sent(unavailable_now(), entry->sent));
      }
    // Whose caller was answered does not wait for room in the window.
    std::erase_if(queue_, [this](auto& entry) {
      if (!entry->answered) return false;
      entries_.fetch_sub(1);
      bytes_.fetch_sub(static_cast<std::int64_t>(entry->bytes));
      return true;
    });
    if (guest_) guest_->on_tick();
    flush_answers();
  }
  ticking_ = false;
}

core::awaitable<void> Publisher::stop(std::chrono::milliseconds grace) {
  stopping_ = true;
  auto work = [](Publisher* self, std::chrono::milliseconds limit) -> core::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    const auto until = Clock::now() + limit;
    asio::steady_timer pause(self->executor());
    self->take_inbox();
    while (!self->idle() && self->state_ != State::down && Clock::now() < until) {
      pause.expires_after(std::chrono::milliseconds(5));
      boost::system::error_code ignored;
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    co_await self->session_.stop();
    self->take_inbox();
    self->fail_queued(core::unavailable("the service is stopping"));
    self->ticker_.cancel();
    self->flush_answers();
    co_await self->scope_.join();
  };
  co_await asio::co_spawn(executor(), work(this, grace), asio::use_awaitable);
}

}  // namespace flexi::transports::amqp
