// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace flexi::services::mail {

struct Address {
  std::string name;       ///< display name, UTF-8; may be empty
  std::string addr_spec;  ///< local-part@domain, at most 254 bytes; the domain is ASCII (xn--…), the local part may be UTF-8
  /// False where only a server with SMTPUTF8 takes it. Source: RFC 6531
  bool is_ascii() const;
};

inline constexpr std::size_t kMaxRecipients = 100;

/// Reads `addr-spec`, `<addr-spec>` or `Name <addr-spec>`, the name quoted or not. The local part is a dot-atom: quoted
/// local parts, address literals, comments and groups are refused. An internationalised domain becomes its A-labels, so
/// that it needs nothing of a server.
/// @param field names the input in the error, e.g. "to"
/// @return      invalid_argument that names field and address; never an address with a control character
/// Source: RFC 5322 section 3.4, RFC 6532 section 3.2, RFC 5891 section 4, lengths RFC 5321 section 4.5.3.1
core::Result<Address> parse_address(std::string_view field, std::string_view text);

/// One to kMaxRecipients addresses, separated by commas.
core::Result<std::vector<Address>> parse_address_list(std::string_view field, std::string_view text);

/// A host name of ASCII letters, digits and hyphens. Source: RFC 1123 section 2.1
bool is_domain(std::string_view text);

/// What may stand in a header field: valid UTF-8 without CR, LF and NUL, at most `max_bytes`.
/// @return invalid_argument that names the field
core::Result<void> check_header_text(std::string_view field, std::string_view text, std::size_t max_bytes);

}  // namespace flexi::services::mail
