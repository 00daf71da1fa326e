// SPDX-License-Identifier: Apache-2.0
#include "core/request.hpp"

namespace flexi::core {

namespace {
constexpr std::pair<Via, std::string_view> kVias[] = {{Via::automatic, "auto"}, {Via::inproc, "inproc"}, {Via::http, "http"},
                                                      {Via::rpc, "rpc"},        {Via::grpc, "grpc"},     {Via::amqp, "amqp"}};
constexpr std::pair<Ack, std::string_view> kAcks[] = {{Ack::accepted, "accepted"}, {Ack::stored, "stored"}};
}  // namespace

std::string_view to_string(Via via) {
  for (auto& [value, name] : kVias)
    if (value == via) return name;
  return "auto";
}

std::optional<Via> via_from(std::string_view name) {
  for (auto& [value, text] : kVias)
    if (text == name) return value;
  return std::nullopt;
}

std::string_view to_string(Ack ack) { return ack == Ack::accepted ? "accepted" : "stored"; }

std::optional<Ack> ack_from(std::string_view name) {
  for (auto& [value, text] : kAcks)
    if (text == name) return value;
  return std::nullopt;
}

bool is_administrative(std::string_view action) {
  for (std::string_view prefix : {"logs.", "mails.", "users.", "dlq.", "receipts.", "ledger.", "system."})
    if (action.starts_with(prefix)) return true;
  return false;
}

bool same_payload(const Payload& a, const Payload& b) {
  if (a.index() != b.index()) return false;
  if (auto* x = std::get_if<LogEntry>(&a)) {
    auto& y = std::get<LogEntry>(b);
    return x->name == y.name && x->data == y.data;
  }
  if (auto* x = std::get_if<Mail>(&a)) {
    return *x == std::get<Mail>(b);
  }
  if (auto* x = std::get_if<Credentials>(&a)) {
    auto& y = std::get<Credentials>(b);
    return x->email == y.email && x->password == y.password;
  }
  return std::get<Json>(a).text == std::get<Json>(b).text;
}

}  // namespace flexi::core
