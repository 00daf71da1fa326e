// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/request.hpp"
#include "services/mail/address.hpp"

namespace flexi::services::mail {

struct MimeContent {
  core::MessageId id;
  std::string domain;  ///< right side of the Message-ID
  Address from;
  std::vector<Address> to;
  std::vector<Address> cc{};
  std::optional<Address> reply_to{};
  std::string subject{};  ///< UTF-8 without CR, LF and NUL
  std::string plain{};  ///< UTF-8
  std::string html{};   ///< UTF-8
  core::Timestamp date{};
  std::vector<core::Attachment> attachments{};  ///< checked (check_attachment)
};

/// The whole message: multipart/alternative of a plain and an HTML part, within multipart/mixed where there are
/// attachments; CRLF line ends, lines of at most 76 characters (998 where an address or an id is that long). ASCII, unless
/// an address's local part is not. The same content gives the same bytes.
/// Source: RFC 5322, RFC 2045, RFC 2046 sections 5.1.3 and 5.1.4, RFC 2047, RFC 2183, RFC 6532
///
/// Why not GMime: 3.2 writes a subject that looks like an encoded-word as it is (so it reads back as something else),
/// picks ISO-8859-1 for what fits it, and brings GLib's 16 libraries.
std::string compose_mime(const MimeContent& content);

/// What an attachment must keep: a name without path, control characters or line breaks, and a content type that is one
/// and may be base64 (neither multipart/… nor message/…).
/// @return invalid_argument that names it by its place
core::Result<void> check_attachment(const core::Attachment& attachment, std::size_t place);

/// "<id@domain>", one to one: what a dot-atom may not hold is written as =XX. Source: RFC 5322 section 3.6.4
std::string message_id_header(const core::MessageId& id, std::string_view domain);

/// "Tue, 24 Nov 2026 01:19:36 +0000". Source: RFC 5322 section 3.3
std::string mail_date(core::Timestamp time);

}  // namespace flexi::services::mail
