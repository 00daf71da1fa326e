// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/connection.hpp"

#include <boost/asio/redirect_error.hpp>
#include <charconv>

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using boost::system::error_code;
using core::Result;

namespace {

constexpr std::uint16_t kLeastMajor = 3, kLeastMinor = 10;
constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::size_t kKeepBytes = 1 << 20;  ///< a rare large burst doesn't stay in memory
constexpr auto kGoodByeTime = std::chrono::milliseconds(500);

std::string_view text_of(const amqp_table_t& table, std::string_view name) {
  for (int i = 0; i < table.num_entries; ++i)
    if (view_of(table.entries[i].key) == name && table.entries[i].value.kind == AMQP_FIELD_KIND_UTF8) return view_of(table.entries[i].value.value.bytes);
  return {};
}

core::Error closed_error(std::uint16_t code, std::string_view text, const Endpoint& endpoint) {
  const auto detail = endpoint.authority() + ": " + std::string(text);
  if (code == 403) return core::unavailable("RabbitMQ refuses the user name or password", detail);
  if (code == 530) return core::unavailable("RabbitMQ has no such virtual host, or not for this user", detail);
  if (code == 320) return core::unavailable("RabbitMQ is stopping", detail);
  return core::unavailable("RabbitMQ closed the connection", detail);
}

core::awaitable<void> close_after(asio::steady_timer& timer, Connection& connection) {
  error_code ec;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  if (!ec) connection.fail(core::unavailable("RabbitMQ does not answer"));
}

}  // namespace

Connection::Connection(asio::any_io_executor executor, const Endpoint& endpoint, const AmqpOptions& options, runtime::LogSink& log, std::string name)
    : endpoint_(endpoint), options_(options), name_(std::move(name)), stream_(executor), scope_(executor, "RabbitMQ connection", log), wake_(executor),
      over_timer_(executor), beat_(executor), limit_(executor) {}

Connection::~Connection() = default;

Result<void> Connection::check_server(const amqp_table_t& properties) {
  const auto product = text_of(properties, "product");
  version_ = text_of(properties, "version");
  unsigned major = 0, minor = 0;
  const char* const end = version_.data() + version_.size();
  auto first = std::from_chars(version_.data(), end, major);
  if (first.ec == std::errc() && first.ptr != end) std::from_chars(first.ptr + 1, end, minor);
  if (product == "RabbitMQ" && (major > kLeastMajor || (major == kLeastMajor && minor >= kLeastMinor))) return core::ok();
  return core::unavailable("RabbitMQ 3.10 or later is needed, there is " + (product.empty() ? "something else" : std::string(product)) + " " + version_);
}

core::awaitable<Result<void>> Connection::open() {
  co_await asio::this_coro::throw_if_cancelled(false);
  if (over_) co_return *over_;
  limit_.expires_after(options_.connect_timeout * 4 + options_.handshake_timeout);
  scope_.spawn(close_after(limit_, *this));
  auto connected = co_await stream_.connect(endpoint_, options_);
  if (connected && over_) connected = *over_;
  if (connected) {
    limit_.expires_after(options_.handshake_timeout);
    scope_.spawn(close_after(limit_, *this));
    started_ = true;
    scope_.spawn(read());
    scope_.spawn(write());
    connected = co_await log_in();
  }
  limit_.cancel();
  if (!connected) {
    fail(connected.error());
    co_return *over_;
  }
  scope_.spawn(beat());
  co_return core::ok();
}

core::awaitable<Result<MethodReply>> Connection::next_connection_method() {
  co_return co_await runtime::wait_for_completion<MethodReply>(
      [this](std::shared_ptr<runtime::Completion<MethodReply>> completion) {
        if (over_) return completion->complete(*over_);
        channels_[0].waiting.push_back([completion](const Result<MethodReply>& reply) { completion->complete(reply); });
      },
      core::unavailable("cancelled"));
}

/// Source: AMQP 0-9-1 section 2.2.4, "connection"
core::awaitable<Result<void>> Connection::log_in() {
  out_.append("AMQP\0\0\x09\x01", 8);
  wake_writer();
  {
    auto started = co_await next_connection_method();
    if (!started) co_return started.error();
  }
  if (!server_) co_return server_.error();
  amqp_table_entry_t able[5]{}, about[3]{};
  const char* const names[] = {"publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked", "authentication_failure_close"};
  for (int i = 0; i < 5; ++i) {
    able[i].key = amqp_cstring_bytes(names[i]);
    able[i].value.kind = AMQP_FIELD_KIND_BOOLEAN;
    able[i].value.value.boolean = 1;
  }
  about[0].key = amqp_cstring_bytes("product");
  about[0].value.value.bytes = amqp_cstring_bytes("FlexiConnect");
  about[1].key = amqp_cstring_bytes("connection_name");
  about[1].value.value.bytes = bytes_of(name_);
  about[0].value.kind = about[1].value.kind = AMQP_FIELD_KIND_UTF8;
  about[2].key = amqp_cstring_bytes("capabilities");
  about[2].value.kind = AMQP_FIELD_KIND_TABLE;
  about[2].value.value.table = {5, able};
  const auto response = std::string(1, '\0') + endpoint_.user + std::string(1, '\0') + endpoint_.password;
  amqp_connection_start_ok_t start_ok{{3, about}, amqp_cstring_bytes("PLAIN"), bytes_of(response), amqp_cstring_bytes("en_US")};
  send(0, AMQP_CONNECTION_START_OK_METHOD, &start_ok);
  {
    auto tuned = co_await next_connection_method();
    if (!tuned) co_return tuned.error();
  }
  const auto wanted = static_cast<std::uint16_t>(std::chrono::duration_cast<std::chrono::seconds>(options_.heartbeat).count());
  const auto beat = tuned_heartbeat_ == 0 ? wanted : std::min(wanted, tuned_heartbeat_);
  heartbeat_ = std::chrono::seconds(beat);
  amqp_connection_tune_ok_t tune_ok{tuned_channels_, static_cast<std::uint32_t>(frame_max_), beat};
  send(0, AMQP_CONNECTION_TUNE_OK_METHOD, &tune_ok);
  amqp_connection_open_t open{bytes_of(endpoint_.vhost), amqp_empty_bytes, 0};
  auto opened = co_await call(0, AMQP_CONNECTION_OPEN_METHOD, &open);
  if (!opened) co_return opened.error();
  co_return core::ok();
}

core::awaitable<Result<void>> Connection::open_channel(std::uint16_t number, ChannelUser* user) {
  channels_[number] = Channel{};
  channels_[number].user = user;
  channels_[number].open = true;
  amqp_channel_open_t open{amqp_empty_bytes};
  auto opened = co_await call(number, AMQP_CHANNEL_OPEN_METHOD, &open);
  if (!opened) co_return opened.error();
  if (opened.value().refused()) co_return core::unavailable("RabbitMQ refuses a channel", opened.value().text);
  co_return core::ok();
}

bool Connection::is_open(std::uint16_t number) const {
  const auto found = channels_.find(number);
  return found != channels_.end() && found->second.open;
}

core::awaitable<void> Connection::close_channel(std::uint16_t number) {
  if (over_ || !channels_[number].open) co_return;
  amqp_channel_close_t close{200, amqp_cstring_bytes("done"), 0, 0};
  (void)co_await call(number, AMQP_CHANNEL_CLOSE_METHOD, &close);
  channels_[number].open = false;
  channels_[number].user = nullptr;
}

void Connection::start_call(std::uint16_t number, amqp_method_number_t method, void* arguments, OnReply on_reply) {
  auto& channel = channels_[number];
  if (over_) return on_reply(*over_);
  if (number != 0 && !channel.open) return on_reply(core::unavailable("RabbitMQ closed the channel"));
  channel.waiting.push_back(std::move(on_reply));
  send(number, method, arguments);
}

core::awaitable<Result<MethodReply>> Connection::call(std::uint16_t channel, amqp_method_number_t method, void* arguments) {
  co_return co_await runtime::wait_for_completion<MethodReply>(
      [=, this](std::shared_ptr<runtime::Completion<MethodReply>> completion) {
        start_call(channel, method, arguments, [completion](const Result<MethodReply>& reply) { completion->complete(reply); });
      },
      core::unavailable("cancelled"));
}

void Connection::send(std::uint16_t channel, amqp_method_number_t method, void* arguments) {
  if (over_) return;
  if (!append_method(out_, channel, method, arguments, frame_max_)) return fail(core::internal("internal error", "an AMQP method does not fit a frame"));
  wake_writer();
}

Result<void> Connection::publish(std::uint16_t channel, std::string_view exchange, std::string_view routing_key, bool mandatory, const Message& message) {
  if (over_) return *over_;
  FLEXI_TRY(append_publish(out_, channel, exchange, routing_key, mandatory, message, frame_max_));
  wake_writer();
  return core::ok();
}

void Connection::get(std::uint16_t channel, std::string_view queue) {
  amqp_basic_get_t get{0, bytes_of(queue), 0};
  send(channel, AMQP_BASIC_GET_METHOD, &get);
}

void Connection::ack(std::uint16_t channel, std::uint64_t tag, bool multiple) {
  amqp_basic_ack_t ack{tag, multiple};
  send(channel, AMQP_BASIC_ACK_METHOD, &ack);
}

void Connection::reject(std::uint16_t channel, std::uint64_t tag, bool requeue) {
  amqp_basic_reject_t reject{tag, requeue};
  send(channel, AMQP_BASIC_REJECT_METHOD, &reject);
}

core::awaitable<void> Connection::read() {
  co_await asio::this_coro::throw_if_cancelled(false);
  while (!over_) {
    const auto had = in_.size();
    in_.resize(had + kReadBytes);
    error_code ec;
    const auto size = co_await stream_.read_some(asio::buffer(in_.data() + had, kReadBytes), ec);
    in_.resize(had + size);
    if (ec || over_) {
      fail(core::unavailable("the connection to RabbitMQ was lost", endpoint_.authority() + ": " + ec.message()));
      break;
    }
    heard_ = true;
    std::string_view rest = in_;
    Frame frame;
    while (!over_) {
      const auto step = next_frame(rest, frame_max_, frame);
      if (step == FrameStep::need_more) break;
      if (step == FrameStep::malformed) {
        fail(core::unavailable("what answers is not RabbitMQ", endpoint_.authority() + ": no AMQP 0-9-1 frame"));
        break;
      }
      take(frame);
      pool_.recycle();
    }
    in_.erase(0, in_.size() - rest.size());
    if (in_.empty() && in_.capacity() > kKeepBytes) in_ = std::string();
    for (auto& [number, channel] : channels_)
      if (channel.user) channel.user->on_batch_end();
  }
}

core::awaitable<void> Connection::write() {
  co_await asio::this_coro::throw_if_cancelled(false);
  while (!over_) {
    if (out_.empty()) {
      writer_waits_ = true;
      wake_.expires_at(asio::steady_timer::time_point::max());
      error_code woken;
      co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
      writer_waits_ = false;
      continue;
    }
    writing_.swap(out_);
    error_code ec;
    co_await stream_.write(writing_, ec);
    if (ec) {
      fail(core::unavailable("the connection to RabbitMQ was lost", endpoint_.authority() + ": " + ec.message()));
      break;
    }
    said_ = true;
    writing_.clear();
    if (writing_.capacity() > kKeepBytes) writing_ = std::string();
    if (user_ && !over_) user_->on_writable();
  }
}

void Connection::wake_writer() {
  if (writer_waits_) wake_.cancel();
}

/// Source: AMQP 0-9-1 section 4.2.7
core::awaitable<void> Connection::beat() {
  co_await asio::this_coro::throw_if_cancelled(false);
  int silent = 0;
  while (!over_ && heartbeat_.count() > 0) {
    beat_.expires_after(heartbeat_ / 2);
    error_code ec;
    co_await beat_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if (over_) break;
    silent = std::exchange(heard_, false) ? 0 : silent + 1;
    if (silent >= 4) fail(core::unavailable("RabbitMQ does not answer", endpoint_.authority() + ": no heartbeat"));
    // While a write hangs RabbitMQ hears no heartbeat either way; one more must not be put behind it again and again.
    if (!std::exchange(said_, false) && buffered() == 0 && !over_) {
      append_heartbeat(out_);
      wake_writer();
    }
  }
}

void Connection::fail(core::Error why) {
  if (over_) return;
  over_ = std::move(why);
  stream_.close();
  wake_.cancel();
  beat_.cancel();
  over_timer_.cancel();
  for (auto& [number, channel] : channels_) {
    channel.open = false;
    for (auto& on_reply : std::exchange(channel.waiting, {})) on_reply(*over_);
    if (channel.user) channel.user->on_over();
  }
}

core::awaitable<void> Connection::wait_over(std::chrono::milliseconds limit) {
  co_await asio::this_coro::throw_if_cancelled(false);
  if (over_ || leaving_) co_return;
  over_timer_.expires_after(limit);
  error_code ignored;
  co_await over_timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

void Connection::leave() {
  leaving_ = true;
  over_timer_.cancel();
}

core::awaitable<void> Connection::finish() {
  co_await asio::this_coro::throw_if_cancelled(false);
  if (!over_ && started_) {
    limit_.expires_after(kGoodByeTime);
    scope_.spawn(close_after(limit_, *this));
    amqp_connection_close_t close{200, amqp_cstring_bytes("good-bye"), 0, 0};
    (void)co_await call(0, AMQP_CONNECTION_CLOSE_METHOD, &close);
    limit_.cancel();
  }
  fail(core::unavailable("the connection to RabbitMQ was closed"));
  co_await scope_.join();
}

void Connection::take(const Frame& frame) {
  if (frame.type == AMQP_FRAME_HEARTBEAT) return;
  const auto found = channels_.find(frame.channel);
  if (found == channels_.end()) return;
  auto& channel = found->second;
  if (frame.type == AMQP_FRAME_METHOD) return take_method(channel, frame.channel, frame.payload);
  if (channel.content == Channel::Content::none) return;
  auto& message = channel.delivery.message;
  if (frame.type == AMQP_FRAME_HEADER) {
    auto header = decode_content_header(pool_, frame.payload);
    if (!header) return fail(core::unavailable("what answers is not RabbitMQ", header.error().message));
    message = std::move(header).value();
    channel.missing = message.body_bytes;
    channel.has_header = true;
  } else if (channel.has_header) {
    if (frame.payload.size() > channel.missing) return fail(core::unavailable("what answers is not RabbitMQ", "a body is longer than announced"));
    channel.missing -= frame.payload.size();
    // One byte more than is allowed shows that it is too long; the rest is not kept.
    const auto limit = static_cast<std::size_t>(options_.max_body_bytes);
    if (message.body_bytes <= limit) message.body.reserve(message.body_bytes);
    message.body.append(frame.payload.substr(0, limit - std::min(limit, message.body.size())));
  }
  if (channel.has_header && channel.missing == 0) content_complete(channel);
}

void Connection::content_complete(Channel& channel) {
  const auto content = std::exchange(channel.content, Channel::Content::none);
  channel.has_header = false;
  auto delivery = std::exchange(channel.delivery, {});
  if (!channel.user) return;
  if (content == Channel::Content::delivery) channel.user->on_delivery(std::move(delivery));
  else if (content == Channel::Content::got) channel.user->on_got(std::move(delivery));
  else channel.user->on_return(channel.return_code, std::move(channel.return_text), std::move(delivery.routing_key), std::move(delivery.message));
}

void Connection::answer(Channel& channel, const Result<MethodReply>& reply) {
  if (channel.waiting.empty()) return;
  auto on_reply = std::move(channel.waiting.front());
  channel.waiting.pop_front();
  on_reply(reply);
}

void Connection::take_method(Channel& channel, std::uint16_t number, std::string_view payload) {
  amqp_method_number_t method = 0;
  auto decoded = decode_method(pool_, payload, method);
  if (!decoded) return fail(core::unavailable("what answers is not RabbitMQ", decoded.error().message));
  if (number == 0) return take_connection_method(method, decoded.value());
  switch (method) {
    case AMQP_BASIC_DELIVER_METHOD: {
      auto& m = *static_cast<amqp_basic_deliver_t*>(decoded.value());
      channel.content = Channel::Content::delivery;
      channel.delivery = {m.delivery_tag, m.redelivered != 0, std::string(view_of(m.consumer_tag)), std::string(view_of(m.routing_key)), {}};
      return;
    }
    case AMQP_BASIC_GET_OK_METHOD: {
      auto& m = *static_cast<amqp_basic_get_ok_t*>(decoded.value());
      channel.content = Channel::Content::got;
      channel.delivery = {m.delivery_tag, m.redelivered != 0, {}, std::string(view_of(m.routing_key)), {}};
      return;
    }
    case AMQP_BASIC_GET_EMPTY_METHOD:
      if (channel.user) channel.user->on_got(std::nullopt);
      return;
    case AMQP_BASIC_RETURN_METHOD: {
      auto& m = *static_cast<amqp_basic_return_t*>(decoded.value());
      channel.content = Channel::Content::returned;
      channel.return_code = m.reply_code;
      channel.return_text = view_of(m.reply_text);
      channel.delivery = {};
      channel.delivery.routing_key = view_of(m.routing_key);
      return;
    }
    case AMQP_BASIC_ACK_METHOD: {
      auto& m = *static_cast<amqp_basic_ack_t*>(decoded.value());
      if (channel.user) channel.user->on_confirm(m.delivery_tag, m.multiple != 0, true);
      return;
    }
    case AMQP_BASIC_NACK_METHOD: {
      auto& m = *static_cast<amqp_basic_nack_t*>(decoded.value());
      if (channel.user) channel.user->on_confirm(m.delivery_tag, m.multiple != 0, false);
      return;
    }
    case AMQP_BASIC_CANCEL_METHOD:
      if (channel.user) channel.user->on_consumer_cancelled(std::string(view_of(static_cast<amqp_basic_cancel_t*>(decoded.value())->consumer_tag)));
      return;
    case AMQP_CHANNEL_CLOSE_METHOD: {
      auto& m = *static_cast<amqp_channel_close_t*>(decoded.value());
      MethodReply refusal{.code = m.reply_code, .text = std::string(view_of(m.reply_text))};
      amqp_channel_close_ok_t ok{};
      send(number, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
      channel.open = false;
      // The first that waits is the one that was refused; those behind it were thrown away unread.
      answer(channel, refusal);
      while (!channel.waiting.empty()) answer(channel, core::unavailable("RabbitMQ closed the channel", refusal.text));
      if (channel.user) channel.user->on_channel_closed(refusal);
      return;
    }
    case AMQP_CHANNEL_FLOW_METHOD: return;
    default: break;
  }
  MethodReply reply;
  if (method == AMQP_QUEUE_DECLARE_OK_METHOD) {
    auto& m = *static_cast<amqp_queue_declare_ok_t*>(decoded.value());
    reply.name = view_of(m.queue);
    reply.messages = m.message_count;
    reply.consumers = m.consumer_count;
  } else if (method == AMQP_BASIC_CONSUME_OK_METHOD) {
    reply.name = view_of(static_cast<amqp_basic_consume_ok_t*>(decoded.value())->consumer_tag);
  } else if (method == AMQP_QUEUE_DELETE_OK_METHOD) {
    reply.messages = static_cast<amqp_queue_delete_ok_t*>(decoded.value())->message_count;
  } else if (method == AMQP_QUEUE_PURGE_OK_METHOD) {
    reply.messages = static_cast<amqp_queue_purge_ok_t*>(decoded.value())->message_count;
  }
  answer(channel, reply);
}

void Connection::take_connection_method(amqp_method_number_t method, void* decoded) {
  auto& channel = channels_[0];
  switch (method) {
    case AMQP_CONNECTION_START_METHOD:
      server_ = check_server(static_cast<amqp_connection_start_t*>(decoded)->server_properties);
      return answer(channel, MethodReply{});
    case AMQP_CONNECTION_TUNE_METHOD: {
      auto& m = *static_cast<amqp_connection_tune_t*>(decoded);
      tuned_channels_ = m.channel_max;
      tuned_heartbeat_ = m.heartbeat;
      if (m.frame_max >= 4096) frame_max_ = std::min<std::size_t>(frame_max_, m.frame_max);
      return answer(channel, MethodReply{});
    }
    case AMQP_CONNECTION_BLOCKED_METHOD:
      blocked_ = view_of(static_cast<amqp_connection_blocked_t*>(decoded)->reason);
      if (blocked_.empty()) blocked_ = "an alarm";
      if (user_) user_->on_blocked(blocked_);
      return;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
      blocked_.clear();
      if (user_) user_->on_unblocked();
      return;
    case AMQP_CONNECTION_CLOSE_METHOD: {
      auto& m = *static_cast<amqp_connection_close_t*>(decoded);
      closed_ = Closed{m.reply_code, std::string(view_of(m.reply_text)), static_cast<amqp_method_number_t>(m.class_id) << 16 | m.method_id};
      return fail(closed_error(m.reply_code, view_of(m.reply_text), endpoint_));
    }
    default: return answer(channel, MethodReply{});
  }
}

}  // namespace flexi::transports::amqp
