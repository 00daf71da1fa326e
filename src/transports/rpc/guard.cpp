// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/guard.hpp"

#include <kj/debug.h>

namespace flexi::transports::rpc {

namespace {
kj::Exception too_much(const std::string& what) {
  return kj::Exception(kj::Exception::Type::OVERLOADED, __FILE__, __LINE__, kj::heapString(what.c_str()));
}
}  // namespace

std::optional<kj::Exception> Guard::look_at(capnp::rpc::Message::Reader message) {
  using capnp::rpc::Message;
  switch (message.which()) {
    case Message::BOOTSTRAP: return opened(message.getBootstrap().getQuestionId());
    case Message::CALL:
      // Such answers would be kept here until the peer asks for them. Source: capnp/rpc.capnp, Call.sendResultsTo
      if (!message.getCall().getSendResultsTo().isCaller())
        return kj::Exception(kj::Exception::Type::UNIMPLEMENTED, __FILE__, __LINE__, kj::heapString("answers are sent to the caller only"));
      if (auto failure = carries(message.getCall().getParams().getCapTable().size())) return failure;
      return opened(message.getCall().getQuestionId());
    case Message::RETURN:
      return message.getReturn().isResults() ? carries(message.getReturn().getResults().getCapTable().size()) : std::nullopt;
    case Message::FINISH: questions_.erase(message.getFinish().getQuestionId()); break;
    case Message::ABORT: {
      const auto reason = message.getAbort();
      aborted_.emplace(static_cast<kj::Exception::Type>(std::min<unsigned>(static_cast<unsigned>(reason.getType()), 3)), __FILE__, __LINE__,
                       kj::heapString(reason.getReason()));
      break;
    }
    default: break;
  }
  return std::nullopt;
}

std::optional<kj::Exception> Guard::opened(std::uint32_t question) {
  // The RPC system would refuse it, too, but lose its hold of the first call in doing so.
  if (!questions_.insert(question).second)
    return kj::Exception(kj::Exception::Type::FAILED, __FILE__, __LINE__, kj::heapString("a question's number is already in use"));
  if (questions_.size() <= limits_.max_unreleased) return std::nullopt;
  return too_much("more than " + std::to_string(limits_.max_unreleased) + " answers are not released");
}

std::optional<kj::Exception> Guard::carries(std::size_t capabilities) const {
  if (capabilities <= limits_.max_capabilities) return std::nullopt;
  return too_much("a message carries more than " + std::to_string(limits_.max_capabilities) + " capabilities");
}

}  // namespace flexi::transports::rpc
