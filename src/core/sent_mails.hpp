// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/handler.hpp"
#include "core/known_ids.hpp"

namespace flexi::core {

/// What is kept of a mail that is handed to an SMTP server: everything but its content.
struct SentMail {
  enum class State {
    sending,    ///< claimed; its holder is at it, or has crashed: after the lease anybody may claim it again
    sent,       ///< the server took it
    undecided,  ///< read only: `sending` whose lease is over. The server may have it
    unsent,     ///< given back: the last attempt failed
  };

  MessageId id;
  std::array<std::uint8_t, 32> digest{};  ///< tells a mail from another under the same id
  std::string from;
  std::vector<std::string> to;  ///< envelope recipients; no line breaks
  std::string subject;
  Timestamp accepted_at{};
  TraceId trace_id{};
  std::string hops{};
  Via via = Via::automatic;  ///< the way it came by
  bool published = false;    ///< by a broker, whose publisher counts its acceptance

  // Set by the store; claim() does not read them.
  State state = State::sending;
  Timestamp at{};             ///< of the state
  unsigned attempts = 0;      ///< claims, this one included
  std::optional<unsigned> duplicates{};  ///< how often a sent mail came again; none: not counted here
};

/// A claim's answer.
struct MailClaim {
  bool sent_before = false;  ///< true: the server has it, send nothing
  std::int64_t token = 0;    ///< of a claim that is the caller's now: for sent() and release()
};

struct SentMailPage {
  std::vector<SentMail> mails;  ///< newest accepted_at first; none that is `unsent`
  std::string next;
};

/// The durable ledger of the mails that SMTP servers took, shared by all replicas of the mail service: so a redelivery
/// sends nothing twice, and what was sent is in the receipts and the message ledger.
///
/// Each delivery is claim, SMTP, then sent() or release(). A holder that dies in between leaves a claim that runs out: the
/// mail may then be sent a second time, because nobody can know whether the server had it. At least once, therefore, and
/// exactly once wherever sent() was reached.
/// Lifetime/threads: any thread; outlives its calls
class SentMails {
 public:
  virtual ~SentMails() = default;

  /// Takes the id for `lease`, by the store's own clock: replicas' clocks need not agree. An id that is free is one that
  /// was never claimed, was released, or whose lease is over. Of several at once one wins.
  /// A mail that was sent before is a repetition: counted as such in the ledger in the same transaction, as a mailbox does
  /// (accepted once more by a publisher: accepted is taken off again, once per acceptance; beside it one duplicate).
  /// @return conflict: the id stands for another digest (unless it is `unsent`: then the new one takes its place);
  ///         unavailable with retry_after, what is left of the lease: another holds it, the mail may be sent next
  virtual awaitable<Result<MailClaim>> claim(SentMail mail, std::chrono::milliseconds lease, CallContext context) = 0;

  /// The server took it. Holds whoever has the claim meanwhile, and is idempotent; its first time is counted as stored in
  /// the ledger in the same transaction (accepted, too, unless `published`), by the claim's via.
  /// @return not_found where the id is not known at all
  virtual awaitable<Result<void>> sent(MessageId id, std::int64_t token, CallContext context) = 0;

  /// The attempt is over, and the server did not say that it took the mail: the id is free at once, and the mail `unsent`.
  /// Does nothing where the claim is another's by now, or the mail is sent.
  virtual awaitable<Result<void>> release(MessageId id, std::int64_t token, CallContext context) = 0;

  /// @param limit 1 to 500
  virtual awaitable<Result<SentMailPage>> list(unsigned limit, std::string cursor, CallContext context) = 0;
  /// @return not_found
  virtual awaitable<Result<SentMail>> get(MessageId id, CallContext context) = 0;
  /// Which of at most KnownIds::kMost ids are `sent`. kept_since: older ones may have been forgotten (retention).
  virtual awaitable<Result<KnownIds>> known(std::vector<MessageId> ids, CallContext context) = 0;
};

}  // namespace flexi::core
