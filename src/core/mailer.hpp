// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/handler.hpp"
#include "core/known_ids.hpp"

namespace flexi::core {

/// A rendered mail, ready for SMTP.
struct RenderedMail {
  MessageId id;
  std::string from;             ///< envelope sender, an addr-spec
  std::vector<std::string> to;  ///< envelope recipients, addr-specs
  std::string subject;          ///< as the caller wrote it, UTF-8
  std::string html;             ///< HTML part, UTF-8, CSS inlined
  std::string plain;            ///< plain part, UTF-8
  std::string mime;             ///< the whole message, CRLF line ends. Source: RFC 5322, RFC 2045
  std::string payload{};        ///< what the caller sent, as one text: tells a mail from another whatever became of it; empty: the above does
  Timestamp created_at{};
  TraceId trace_id{};        ///< all zero: none
  std::string hops{};        ///< CallContext::hops
  Via via = Via::automatic;  ///< the way it came by
  bool published = false;    ///< by a broker, whose publisher counts its acceptance
  std::optional<unsigned> duplicates{};  ///< of a mail that is kept: how often it came again; none: not counted here
};

enum class Delivered { sent, duplicate };

/// One way to deliver mail. Delivery is idempotent by id as far as the way allows; the same id with another content
/// is `conflict`.
class Mailer {
 public:
  virtual ~Mailer() = default;
  virtual awaitable<Result<Delivered>> deliver(RenderedMail mail, CallContext context) = 0;
};

struct MailPage {
  std::vector<RenderedMail> mails;  ///< newest first, with neither html, plain nor mime
  std::string next;
};

/// Where caught mails are kept to be looked at.
class Mailbox {
 public:
  virtual ~Mailbox() = default;
  virtual awaitable<Result<MailPage>> list(unsigned limit, std::string cursor, CallContext context) = 0;
  virtual awaitable<Result<RenderedMail>> get(MessageId id, CallContext context) = 0;
  virtual awaitable<Result<void>> remove(MessageId id, CallContext context) = 0;
  /// Which of at most KnownIds::kMost ids it has, or has had and removed.
  virtual awaitable<Result<KnownIds>> known(std::vector<MessageId> ids, CallContext context) = 0;
};

}  // namespace flexi::core
