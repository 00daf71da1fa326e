// SPDX-License-Identifier: Apache-2.0
#include "services/broker/payload_size.hpp"

#include "runtime/json.hpp"

namespace flexi::services::broker {

namespace {

constexpr std::size_t kLongestEscape = 6;   // \u001f
constexpr std::size_t kNamesBytes = 64;     // braces, names and commas around a payload's texts

struct RawBytes {
  std::size_t operator()(const core::Json& json) const { return json.text.size(); }
  std::size_t operator()(const core::Credentials& who) const { return who.email.size() + who.password.size(); }
  std::size_t operator()(const core::LogEntry& entry) const { return entry.name.size() + entry.data.size(); }
  std::size_t operator()(const core::Mail& mail) const {
    std::size_t size = mail.from.size() + mail.to.size() + mail.subject.size() + mail.message.size() + of_extras(mail);
    for (auto& attachment : mail.attachments) size += attachment.name.size() + attachment.content_type.size() + attachment.content.size() + kNamesBytes;
    return size;
  }
  static std::size_t of_extras(const core::Mail& mail) {
    std::size_t size = 0;
    for (auto& [name, text] : core::kMailExtras)
      if (!(mail.*text).empty()) size += (mail.*text).size() + name.size() + 6;
    return size;
  }
};

struct JsonBytes {
  using Fields = std::initializer_list<std::pair<std::string_view, std::string_view>>;
  static std::size_t of(Fields fields) {
    runtime::JsonWriter json;
    json.begin_object();
    for (auto& [name, text] : fields) json.field(name, text);
    return json.end_object().take().size();
  }
  std::size_t operator()(const core::Json& json) const { return json.text.size(); }
  std::size_t operator()(const core::Credentials& who) const { return of({{"email", who.email}, {"password", who.password}}); }
  std::size_t operator()(const core::LogEntry& entry) const { return of({{"name", entry.name}, {"data", entry.data}}); }
  std::size_t operator()(const core::Mail& mail) const {
    std::size_t size = of({{"from", mail.from}, {"to", mail.to}, {"subject", mail.subject}, {"message", mail.message}});
    for (auto& [name, text] : core::kMailExtras)
      if (!(mail.*text).empty()) size += name == "data" ? mail.data.size() + std::string_view(R"(,"data":)").size() : of({{name, mail.*text}}) - 1;
    if (!mail.attachments.empty()) size += std::string_view(R"(,"attachments":[])").size() - 1;
    for (auto& attachment : mail.attachments) {
      size += of({{"name", attachment.name}}) + std::string_view(R"(,,"content":"")").size() + (attachment.content.size() + 2) / 3 * 4;
      if (!attachment.content_type.empty()) size += of({{"content_type", attachment.content_type}}) - 1;
    }
    return size;
  }
};

}  // namespace

core::Result<void> check_size(const core::Payload& payload, std::size_t limit) {
  const auto raw = std::visit(RawBytes{}, payload);
  // Nearly every payload: small enough whatever it holds.
  if (raw * kLongestEscape + kNamesBytes <= limit) return core::ok();
  if (raw <= limit && std::visit(JsonBytes{}, payload) <= limit) return core::ok();
  return core::invalid_argument("the payload must be at most " + std::to_string(limit) + " bytes as JSON");
}

}  // namespace flexi::services::broker
