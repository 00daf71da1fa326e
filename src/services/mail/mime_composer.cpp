// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mime_composer.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>

#include "services/mail/mime_encoding.hpp"

namespace flexi::services::mail {

namespace {

/// Quoted-printable never holds "=_", so no body can hold the boundary; the hash (FNV-1a) keeps a mail within a mail apart.
std::string boundary_of(const core::MessageId& id) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (unsigned char c : id.str()) hash = (hash ^ c) * 0x100000001b3u;
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "=_flexi_%016llx", static_cast<unsigned long long>(hash));
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

}  // namespace

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
  const auto boundary = boundary_of(content.id);
  std::string out;
  out.reserve(1024 + 2 * content.plain.size() + 2 * content.html.size());
  out += "Date: " + mail_date(content.date) + "\r\n";
  out += address_field("From", {content.from});
  out += address_field("To", content.to);
  out += "Subject: " + encode_unstructured(content.subject, 9) + "\r\n";
  out += "Message-ID: " + message_id_header(content.id, content.domain) + "\r\n";
  out += "MIME-Version: 1.0\r\n";
  out += "Content-Type: multipart/alternative;\r\n boundary=\"" + boundary + "\"\r\n\r\n";
  append_part(out, boundary, "text/plain", content.plain);
  append_part(out, boundary, "text/html", content.html);
  return out.append("--").append(boundary).append("--\r\n");
}

}  // namespace flexi::services::mail
