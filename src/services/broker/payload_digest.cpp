// SPDX-License-Identifier: Apache-2.0
#include "services/broker/payload_digest.hpp"

#include <openssl/sha.h>

#include <algorithm>

namespace flexi::services::broker {

namespace {

void add(std::string& text, std::string_view field) {
  const std::uint64_t size = field.size();
  for (int shift = 0; shift < 64; shift += 8) text += static_cast<char>(size >> shift);
  text += field;
}

struct AddFields {
  std::string& text;
  void operator()(const core::Json& json) const { add(text, json.text); }
  void operator()(const core::LogEntry& entry) const {
    add(text, entry.name);
    add(text, entry.data);
  }
  void operator()(const core::Mail& mail) const {
    add(text, mail.from);
    add(text, mail.to);
    add(text, mail.subject);
    add(text, mail.message);
    for (auto& [name, extra] : core::kMailExtras)
      if (!(mail.*extra).empty()) add(text, name), add(text, mail.*extra);
    for (auto& attachment : mail.attachments) {
      add(text, "attachment");
      add(text, attachment.name);
      add(text, attachment.content_type);
      add(text, attachment.content);
    }
  }
  // Credentials never get a digest: it would be a fast hash of a password, kept for a day.
  void operator()(const core::Credentials&) const {}
};

}  // namespace

core::PayloadDigest digest_of(const core::Request& request) {
  std::string text;
  add(text, request.action);
  text += static_cast<char>(request.payload.index());
  std::visit(AddFields{text}, request.payload);
  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash);
  core::PayloadDigest digest;
  std::copy_n(hash, digest.bytes.size(), digest.bytes.begin());
  return digest;
}

}  // namespace flexi::services::broker
