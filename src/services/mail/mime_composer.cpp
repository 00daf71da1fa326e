// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mime_composer.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>

#include "services/mail/mime_encoding.hpp"

namespace flexi::services::mail {

namespace {

/// Neither quoted-printable nor base64 ever holds "=_", so no body can hold a boundary; the hash (FNV-1a) keeps a mail
/// within a mail apart, the kind the parts of one.
std::string boundary_of(const core::MessageId& id, const char* kind) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : id.str()) hash = (hash ^ c) * 0x100000001b3u;
  std::array<char, 48> text;
  std::snprintf(text.data(), text.size(), "=_flexi%s_%016llx", kind, static_cast<unsigned long long>(hash));
  return text.data();
}

/// Addresses on a line each: folding between them needs no counting.
std::string address_field(std::string_view field, const std::vector<Address>& addresses) {
  std::string out(field);
  out += ": ";
  bool first = true;
  for (const auto& address : addresses) {
    if (!first) out += ",\r\n ";
    first = false;
    if (address.name.empty()) {
      out += address.addr_spec;
      continue;
    }
    const auto phrase = encode_phrase(address.name);
    out += phrase;
    out += phrase.size() + address.addr_spec.size() + 10 > 76 ? "\r\n <" : " <";
    out += address.addr_spec + ">";
  }
  return out += "\r\n";
}

void append_part(std::string& out, const std::string& boundary, const char* type, std::string_view text) {
  out.append("--").append(boundary).append("\r\nContent-Type: ").append(type);
  out.append("; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n");
  out.append(quoted_printable(text)).append("\r\n");
}

void append_alternative(std::string& out, const MimeContent& content) {
  const auto boundary = boundary_of(content.id, "");
  out += "Content-Type: multipart/alternative;\r\n boundary=\"" + boundary + "\"\r\n\r\n";
  append_part(out, boundary, "text/plain", content.plain);
  append_part(out, boundary, "text/html", content.html);
  out.append("--").append(boundary).append("--\r\n");
}

void append_attachment(std::string& out, const core::Attachment& attachment) {
  out.append("Content-Type: ").append(attachment.content_type.empty() ? "application/octet-stream" : attachment.content_type);
  out.append("\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment").append(encode_parameter("filename", attachment.name));
  out.append("\r\n\r\n").append(base64_body(attachment.content));
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > 0x20 && c < 0x7f && std::string_view("()<>@,;:\\\"/[]?=").find(c) == std::string_view::npos;
  });
}

/// type/subtype with any parameters, each a token. Source: RFC 2045 section 5.1
bool is_content_type(std::string_view text) {
  if (text.size() > 128) return false;
  auto rest = text;
  const auto take = [&rest] {
    const auto end = std::min(rest.find(';'), rest.size());
    auto part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    return part;
  };
  const auto type = take();
  const auto slash = type.find('/');
  if (slash == std::string_view::npos || !is_token(type.substr(0, slash)) || !is_token(type.substr(slash + 1))) return false;
  while (!rest.empty()) {
    const auto parameter = take();
    const auto equals = parameter.find('=');
    if (equals == std::string_view::npos || !is_token(parameter.substr(0, equals)) || !is_token(parameter.substr(equals + 1))) return false;
  }
  return text.back() != ';';
}

bool begins_with_any_case(std::string_view text, std::string_view prefix) {
  const auto same = [](char p, char c) { return p == (c >= 'A' && c <= 'Z' ? c + 32 : c); };
  return text.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), text.begin(), same);
}

}  // namespace

core::Result<void> check_attachment(const core::Attachment& attachment, std::size_t place) {
  const std::string field = "attachments[" + std::to_string(place) + "]";
  FLEXI_TRY(check_header_text(field + ".name", attachment.name, 255));
  const auto& name = attachment.name;
  const bool control = std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (name.empty() || control || name.find_first_of("/\\") != std::string::npos || name == "." || name == "..")
    return core::invalid_argument(field + ".name must be a file's name, without a path");
  const auto& type = attachment.content_type;
  if (type.empty()) return core::ok();
  if (!is_content_type(type)) return core::invalid_argument(field + ".content_type must be one, e.g. application/pdf");
  for (auto composite : {"multipart/", "message/"})
    if (begins_with_any_case(type, composite))
      return core::invalid_argument(field + ".content_type must not be " + composite + "…: send it as application/octet-stream");
  return core::ok();
}

std::string mail_date(core::Timestamp time) {
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  // strftime would write the names in the locale's language.
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::seconds>(time - day));
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%s, %02u %s %04d %02d:%02d:%02d +0000", kDays[std::chrono::weekday(day).c_encoding()],
                static_cast<unsigned>(date.day()), kMonths[static_cast<unsigned>(date.month()) - 1], static_cast<int>(date.year()),
                static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()), static_cast<int>(clock.seconds().count()));
  return text.data();
}

std::string message_id_header(const core::MessageId& id, std::string_view domain) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  const std::string& text = id.str();
  std::string out = "<";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool inner_dot = c == '.' && i > 0 && i + 1 < text.size() && text[i - 1] != '.';
    if (alnum || inner_dot || std::string_view("-_+~!#$%&*/?^`{|}").find(c) != std::string_view::npos) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out.append({'=', kHex[byte >> 4], kHex[byte & 15]});
    }
  }
  return out.append("@").append(domain).append(">");
}

std::string compose_mime(const MimeContent& content) {
  std::size_t attached = 0;
  for (const auto& attachment : content.attachments) attached += attachment.content.size() * 7 / 5 + 1024;
  std::string out;
  out.reserve(1024 + 2 * content.plain.size() + 2 * content.html.size() + attached);
  out += "Date: " + mail_date(content.date) + "\r\n";
  out += address_field("From", {content.from});
  if (content.reply_to) out += address_field("Reply-To", {*content.reply_to});
  out += address_field("To", content.to);
  if (!content.cc.empty()) out += address_field("Cc", content.cc);
  out += "Subject: " + encode_unstructured(content.subject, 9) + "\r\n";
  out += "Message-ID: " + message_id_header(content.id, content.domain) + "\r\n";
  out += "MIME-Version: 1.0\r\n";
  if (content.attachments.empty()) {
    append_alternative(out, content);
    return out;
  }
  const auto boundary = boundary_of(content.id, "_mixed");
  out += "Content-Type: multipart/mixed;\r\n boundary=\"" + boundary + "\"\r\n\r\n--" + boundary + "\r\n";
  append_alternative(out, content);
  for (const auto& attachment : content.attachments) {
    out.append("--").append(boundary).append("\r\n");
    append_attachment(out, attachment);
  }
  return out.append("--").append(boundary).append("--\r\n");
}

}  // namespace flexi::services::mail
