// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/link.hpp"

#include <capnp/serialize.h>
#include <kj/debug.h>

namespace flexi::transports::rpc {

namespace {

constexpr unsigned kFirstSegmentWords = 128;  // where the RPC system has no idea
constexpr std::size_t kWriteBytes = 4 * 1024;  // then the peer may begin, while more is being said

void append_word_pair(std::string& out, std::uint32_t value) {
  const char bytes[4] = {static_cast<char>(value), static_cast<char>(value >> 8), static_cast<char>(value >> 16), static_cast<char>(value >> 24)};
  out.append(bytes, 4);
}

}  // namespace

class Link::Outgoing final : public capnp::OutgoingRpcMessage {
 public:
  Outgoing(Link& link, unsigned words) : link_(link), message_(words) {}
  capnp::AnyPointer::Builder getBody() override { return message_.getRoot<capnp::AnyPointer>(); }
  void send() override { link_.send(message_.getSegmentsForOutput()); }
  std::size_t sizeInWords() override { return message_.sizeInWords(); }

 private:
  Link& link_;
  capnp::MallocMessageBuilder message_;
};

class Link::Incoming final : public capnp::IncomingRpcMessage {
 public:
  Incoming(kj::Array<capnp::word> words, capnp::ReaderOptions options) : words_(kj::mv(words)), reader_(words_, options) {}
  capnp::AnyPointer::Reader getBody() override { return reader_.getRoot<capnp::AnyPointer>(); }
  std::size_t sizeInWords() override { return words_.size(); }

 private:
  kj::Array<capnp::word> words_;
  capnp::FlatArrayMessageReader reader_;
};

Link::Link(std::shared_ptr<KjLoop> loop, two::Side side, LinkLimits limits, Owner& owner)
    : loop_(std::move(loop)), side_(side), limits_(limits), owner_(owner), peer_id_(4), frames_(limits.max_message_bytes), guard_(limits.guard) {
  peer_id_.initRoot<two::VatId>().setSide(side == two::Side::CLIENT ? two::Side::SERVER : two::Side::CLIENT);
}

Link::~Link() noexcept(false) { loop_->forget(*this); }

kj::Maybe<kj::Own<Network::Connection>> Link::connect(two::VatId::Reader peer) {
  if (peer.getSide() == side_) return nullptr;
  return kj::Own<Network::Connection>(this, kj::NullDisposer::instance);
}

kj::Promise<kj::Own<Network::Connection>> Link::accept() {
  if (side_ != two::Side::SERVER || std::exchange(accepted_, true)) return kj::NEVER_DONE;
  return kj::Own<Network::Connection>(this, kj::NullDisposer::instance);
}

kj::Own<capnp::OutgoingRpcMessage> Link::newOutgoingMessage(unsigned first_segment_words) {
  return kj::heap<Outgoing>(*this, first_segment_words == 0 ? kFirstSegmentWords : first_segment_words);
}

void Link::send(kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments) {
  if (muted_) return;
  append_word_pair(output_, static_cast<std::uint32_t>(segments.size() - 1));
  for (auto& segment : segments) append_word_pair(output_, static_cast<std::uint32_t>(segment.size()));
  if (segments.size() % 2 == 0) append_word_pair(output_, 0);  // the table ends where a word ends
  for (auto& segment : segments) output_.append(reinterpret_cast<const char*>(segment.begin()), segment.size() * sizeof(capnp::word));
  if (output_.size() >= kWriteBytes) owner_.output_ready();
  else if (!std::exchange(announced_, true)) loop_->call_after_events(*this, KjLoop::Order::output);
}

void Link::after_events() {
  announced_ = false;
  owner_.output_ready();
}

void Link::taken() {
  deliver();
  if (hungry()) owner_.hungry_again();
}

void Link::received(std::size_t size) {
  frames_.received(size);
  deliver();
}

void Link::ended() {
  ended_ = true;
  deliver();
}

void Link::fail(kj::Exception&& reason) {
  if (failure_ == nullptr) failure_ = kj::mv(reason);
}

/// @return false where there is nothing to say yet. Throws what ends the connection.
bool Link::take(MaybeMessage& message) {
  KJ_IF_MAYBE(failure, failure_) kj::throwFatalException(kj::cp(*failure));
  if (!writable() && !ended_) return false;
  kj::Array<capnp::word> words;
  switch (frames_.next(words)) {
    case FrameReader::Step::need_more:
      if (!ended_) return false;
      message = nullptr;
      return true;
    case FrameReader::Step::malformed: fail(kj::Exception(kj::Exception::Type::FAILED, __FILE__, __LINE__, kj::heapString(frames_.problem().c_str())));
      kj::throwFatalException(kj::cp(KJ_ASSERT_NONNULL(failure_)));
    case FrameReader::Step::complete: break;
  }
  ++messages_;
  capnp::ReaderOptions options;
  options.nestingLimit = limits_.max_nesting;
  // Pointers that point to the same thing many times must not make a small message large.
  options.traversalLimitInWords = words.size() * 8 + 1024;
  auto incoming = kj::heap<Incoming>(kj::mv(words), options);
  if (auto reason = guard_.look_at(incoming->getBody().getAs<capnp::rpc::Message>())) {
    fail(kj::mv(*reason));
    kj::throwFatalException(kj::cp(KJ_ASSERT_NONNULL(failure_)));
  }
  message = kj::Own<capnp::IncomingRpcMessage>(kj::mv(incoming));
  return true;
}

kj::Promise<Link::MaybeMessage> Link::receiveIncomingMessage() {
  MaybeMessage message;
  bool there = false;
  auto failure = kj::runCatchingExceptions([&] { there = take(message); });
  KJ_IF_MAYBE(e, failure) return kj::mv(*e);
  if (there) return kj::mv(message);
  auto later = kj::newPromiseAndFulfiller<MaybeMessage>();
  waiting_ = kj::mv(later.fulfiller);
  if (hungry()) owner_.hungry_again();
  return kj::mv(later.promise);
}

/// Gives the RPC system what it waits for.
void Link::deliver() {
  if (waiting_ == nullptr) return;
  MaybeMessage message;
  bool there = false;
  auto failure = kj::runCatchingExceptions([&] { there = take(message); });
  if (failure == nullptr && !there) return;
  auto waiting = kj::mv(KJ_ASSERT_NONNULL(waiting_));
  waiting_ = nullptr;
  KJ_IF_MAYBE(e, failure) waiting->reject(kj::mv(*e));
  else waiting->fulfill(kj::mv(message));
}

kj::Promise<void> Link::shutdown() {
  waiting_ = nullptr;
  owner_.finished();
  return kj::READY_NOW;
}

}  // namespace flexi::transports::rpc
