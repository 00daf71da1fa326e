// SPDX-License-Identifier: Apache-2.0
#pragma once

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
  std::string subject;  ///< UTF-8 without CR, LF and NUL
  std::string plain;    ///< UTF-8
  std::string html;     ///< UTF-8
  core::Timestamp date{};
};

/// The whole message: multipart/alternative of a plain and an HTML part, CRLF line ends, lines of at most 76
/// characters (998 where an address or an id is that long). The same content gives the same bytes.
/// Source: RFC 5322, RFC 2045, RFC 2046 section 5.1.4, RFC 2047
///
/// Why not GMime: 3.2 writes a subject that looks like an encoded-word as it is (so it reads back as something else),
/// picks ISO-8859-1 for what fits it, and brings GLib's 16 libraries.
std::string compose_mime(const MimeContent& content);

/// "<id@domain>", one to one: what a dot-atom may not hold is written as =XX. Source: RFC 5322 section 3.6.4
std::string message_id_header(const core::MessageId& id, std::string_view domain);

/// "Tue, 24 Nov 2026 01:19:36 +0000". Source: RFC 5322 section 3.3
std::string mail_date(core::Timestamp time);

}  // namespace flexi::services::mail
