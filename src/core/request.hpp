// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/message_id.hpp"

namespace flexi::core {

using Timestamp = std::chrono::system_clock::time_point;

/// Payload of action "auth".
struct Credentials {
  std::string email;
  std::string password;
};

/// Payload of action "log".
struct LogEntry {
  std::string name;
  std::string data;
};

/// A file that goes with a mail.
struct Attachment {
  std::string name;            ///< as the recipient sees it
  std::string content_type{};  ///< empty: application/octet-stream
  std::string content{};       ///< its bytes
  friend bool operator==(const Attachment&, const Attachment&) = default;
};

/// Payload of action "mail". Addresses are lists with commas between.
struct Mail {
  std::string from;  ///< empty: the configured sender
  std::string to;
  std::string subject;
  std::string message;     ///< may be empty where a template is named
  std::string cc{};
  std::string bcc{};       ///< recipients that the message does not name
  std::string reply_to{};  ///< empty: none
  std::string template_name{};  ///< of the mail service's own templates; empty: the default pair
  std::string data{};           ///< a JSON object for the template; empty: none
  std::vector<Attachment> attachments{};
  friend bool operator==(const Mail&, const Mail&) = default;
};

/// A text of Mail that the contract does not have: optional everywhere, and left out where it is empty, so that what older
/// versions wrote, and what they know a mail by, stays what it was.
struct MailExtra {
  std::string_view name;
  std::string Mail::*text;
};
inline constexpr MailExtra kMailExtras[] = {
    {"cc", &Mail::cc}, {"bcc", &Mail::bcc}, {"reply_to", &Mail::reply_to}, {"template", &Mail::template_name}, {"data", &Mail::data}};

/// Payload of every other action (administration, and what a user's configuration routes): one JSON value as text.
struct Json {
  std::string text = "{}";
};

using Payload = std::variant<Json, Credentials, LogEntry, Mail>;

/// The transport that the caller asks for. `automatic` is the configured order of preference.
enum class Via { automatic, inproc, http, rpc, grpc, amqp };
std::string_view to_string(Via via);  ///< "auto", "inproc", "http", "rpc", "grpc", "amqp"
std::optional<Via> via_from(std::string_view name);

/// What an answer means: `accepted` = durably queued, `stored` = the destination has it.
enum class Ack { accepted, stored };
std::string_view to_string(Ack ack);
std::optional<Ack> ack_from(std::string_view name);

namespace actions {
inline constexpr std::string_view kAuth = "auth", kLog = "log", kMail = "mail";
/// Reads and administration, see schemas/openapi.yaml for their parameters.
inline constexpr std::string_view kLogsList = "logs.list", kLogsGet = "logs.get", kLogsTail = "logs.tail",
                                  kLogsKnown = "logs.known";
inline constexpr std::string_view kMailsList = "mails.list", kMailsGet = "mails.get", kMailsDelete = "mails.delete",
                                  kMailsRelease = "mails.release", kMailsKnown = "mails.known";
inline constexpr std::string_view kUsersList = "users.list", kUsersGet = "users.get", kUsersCreate = "users.create",
                                  kUsersUpdate = "users.update", kUsersDelete = "users.delete", kUsersResetPassword = "users.reset_password";
/// Whose token it is: not administrative, for anybody may ask about a token that he has.
inline constexpr std::string_view kMeGet = "me.get";
inline constexpr std::string_view kDlqList = "dlq.list", kDlqGet = "dlq.get", kDlqReplay = "dlq.replay",
                                  kDlqDiscard = "dlq.discard";
inline constexpr std::string_view kReceiptsGet = "receipts.get", kLedgerGet = "ledger.get";
inline constexpr std::string_view kSystemGet = "system.get";
}  // namespace actions

/// True for actions that read or administer ("logs.list"): answered to administrators only, never queued.
bool is_administrative(std::string_view action);

struct Request {
  MessageId id;        ///< set at ingress, never empty behind it
  std::string action;  ///< "auth", "log", "mail", an administrative action, or one of a user's configuration
  Payload payload;
  Via via = Via::automatic;
  std::optional<Ack> ack{};   ///< none: the action's default
  bool id_from_caller = false;  ///< an Idempotency-Key was given: the same id with another payload is a conflict
  Timestamp accepted_at{};    ///< when the broker took it; becomes created_at
};

/// Whether two payloads are the same message's.
bool same_payload(const Payload& a, const Payload& b);

}  // namespace flexi::core
