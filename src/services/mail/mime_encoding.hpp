// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace flexi::services::mail {

/// Text as a quoted-printable body: CRLF line ends, lines of at most 76 characters, a CRLF at the end. Any line break
/// of the input (LF, CRLF, CR) is one.
/// Source: RFC 2045 section 6.7
std::string quoted_printable(std::string_view text);

/// `text` as the value of an unstructured header field, folded, without the field's name: as it is where a reader gets
/// it back unchanged, else as encoded-words in UTF-8.
/// @param used columns of the first line that the field's name takes, at most 12
/// Source: RFC 2047 sections 2 and 5, RFC 5322 section 2.2.3
std::string encode_unstructured(std::string_view text, std::size_t used);

/// `name` as a phrase in front of an address: atoms, a quoted-string, or encoded-words.
/// Source: RFC 5322 section 3.2.5, RFC 2047 section 5 (3)
std::string encode_phrase(std::string_view name);

/// Bytes as a base64 body: lines of 76 characters with CRLF. Source: RFC 2045 section 6.8
std::string base64_body(std::string_view bytes);

/// "; name=value" of a MIME header, on lines of its own: as a quoted-string where it is short ASCII, else in pieces of
/// percent-encoded UTF-8. `value` holds no control characters.
/// Source: RFC 2045 section 5.1, RFC 2231 sections 3 and 4
std::string encode_parameter(std::string_view name, std::string_view value);

}  // namespace flexi::services::mail
