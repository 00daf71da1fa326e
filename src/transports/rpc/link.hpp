// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <capnp/message.h>
#include <capnp/rpc-twoparty.capnp.h>
#include <capnp/rpc.h>

#include <span>
#include <string>

#include "transports/rpc/frames.hpp"
#include "transports/rpc/guard.hpp"
#include "transports/rpc/kj_loop.hpp"

namespace flexi::transports::rpc {

struct LinkLimits {
  std::size_t max_message_bytes = 1 << 20;
  int max_nesting = 32;
  std::size_t max_unsent_bytes = 1 << 20;  ///< output the peer has not taken: then none of its messages is handled
  GuardLimits guard{};
};

namespace two = capnp::rpc::twoparty;
using Network = capnp::VatNetwork<two::VatId, two::ProvisionId, two::RecipientId, two::ThirdPartyCapId, two::JoinResult>;

/// One connection as Cap'n Proto's RPC system sees it, between two buffers: bytes come in by room() and received(), go out
/// by output(). It knows no socket. Unlike capnp's own TwoPartyVatNetwork it limits what it takes, and writes what one
/// turn of the loop has to say at once.
/// Lifetime/threads: its loop's thread; ends after the RpcSystem that uses it
class Link final : public Network, private Network::Connection, private KjLoop::AfterEvents {
 public:
  class Owner {
   public:
    virtual void output_ready() = 0;  ///< output() holds something; called once kj's events have run
    virtual void hungry_again() = 0;  ///< hungry() is true again
    virtual void finished() = 0;      ///< the RPC system is done with this connection; called from within a kj event

   protected:
    ~Owner() = default;
  };

  Link(std::shared_ptr<KjLoop> loop, two::Side side, LinkLimits limits, Owner& owner);
  ~Link() noexcept(false);

  std::span<char> room(std::size_t size) { return frames_.room(size); }
  void received(std::size_t size);
  /// No more bytes will come.
  void ended();
  /// False where the RPC system has to work off first what came: then better read no more from the peer.
  bool hungry() { return (waiting_ != nullptr && writable()) || !frames_.ready(); }
  /// A message has begun and not ended yet.
  bool in_message() { return frames_.buffered() != 0 && !frames_.ready(); }

  /// What is to be sent; taken by swapping or erasing. After taking, taken() lets the peer's next messages in.
  std::string& output() { return output_; }
  void taken();
  /// Bytes that output_ready() has moved elsewhere but not sent.
  void set_in_flight(std::size_t bytes) { in_flight_ = bytes; }
  bool writable() const { return output_.size() + in_flight_ < limits_.max_unsent_bytes; }
  /// From now on nothing is sent: the peer shall see the connection end, not our way of tidying up.
  void mute() { muted_ = true; }

  std::uint64_t messages() const { return messages_; }  ///< that have come
  const Guard& guard() const { return guard_; }

 private:
  class Outgoing;
  class Incoming;
  using MaybeMessage = kj::Maybe<kj::Own<capnp::IncomingRpcMessage>>;

  // Network
  kj::Maybe<kj::Own<Network::Connection>> connect(two::VatId::Reader peer) override;
  kj::Promise<kj::Own<Network::Connection>> accept() override;
  // Network::Connection
  two::VatId::Reader getPeerVatId() override { return peer_id_.getRoot<two::VatId>(); }
  kj::Own<capnp::OutgoingRpcMessage> newOutgoingMessage(unsigned first_segment_words) override;
  kj::Promise<MaybeMessage> receiveIncomingMessage() override;
  kj::Promise<void> shutdown() override;

  void after_events() override;
  void send(kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>> segments);
  void deliver();
  bool take(MaybeMessage& message);
  void fail(kj::Exception&& reason);

  const std::shared_ptr<KjLoop> loop_;
  const two::Side side_;
  const LinkLimits limits_;
  Owner& owner_;
  capnp::MallocMessageBuilder peer_id_;
  FrameReader frames_;
  Guard guard_;
  std::string output_;
  std::size_t in_flight_ = 0;
  std::uint64_t messages_ = 0;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<MaybeMessage>>> waiting_;
  kj::Maybe<kj::Exception> failure_;
  bool accepted_ = false, ended_ = false, muted_ = false, announced_ = false;
};

}  // namespace flexi::transports::rpc
