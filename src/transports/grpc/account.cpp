// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/account.hpp"

#include "core/timestamp.hpp"
#include "runtime/json.hpp"

namespace flexi::transports::grpc {

namespace {

void write_time(const std::string& text, ::google::protobuf::Timestamp& out) {
  const auto time = core::parse_rfc3339(text);
  if (!time) return;
  const auto micros = core::to_unix_micros(time.value());
  // Nanoseconds count forward, before 1970 too.
  const auto seconds = micros >= 0 ? micros / 1'000'000 : -((-micros + 999'999) / 1'000'000);
  out.set_seconds(seconds);
  out.set_nanos(static_cast<std::int32_t>((micros - seconds * 1'000'000) * 1'000));
}

/// A peer's figures: "" beyond the years that RFC 3339 can write.
std::string time_text(const ::google::protobuf::Timestamp& time) {
  if (time.seconds() < -62'135'596'800 || time.seconds() > 253'402'300'799) return {};
  return core::to_rfc3339(core::from_unix_micros(time.seconds() * 1'000'000 + time.nanos() / 1'000));
}

}  // namespace

void write_account(std::string_view json, ::flexiconnect::v1::User& user) {
  const auto object = runtime::JsonObject::parse(json);
  if (!object) return;
  const auto& fields = object.value();
  const auto text = [&](std::string_view name) {
    auto value = fields.string(name);
    return value && value.value() ? std::move(*value.value()) : std::string();
  };
  const auto number = [&](std::string_view name) {
    auto value = fields.integer(name);
    return value && value.value() ? *value.value() : std::int64_t(0);
  };
  user.set_id(number("id"));
  user.set_email(text("email"));
  user.set_first_name(text("first_name"));
  user.set_last_name(text("last_name"));
  user.set_active(number("active") != 0);
  write_time(text("created_at"), *user.mutable_created_at());
  write_time(text("updated_at"), *user.mutable_updated_at());
}

std::string account_json(const ::flexiconnect::v1::User& user) {
  runtime::JsonWriter json;
  json.begin_object().field("id", user.id()).field("email", user.email());
  if (!user.first_name().empty()) json.field("first_name", user.first_name());
  if (!user.last_name().empty()) json.field("last_name", user.last_name());
  json.field("active", user.active() ? 1 : 0);
  if (const auto time = time_text(user.created_at()); user.has_created_at() && !time.empty()) json.field("created_at", time);
  if (const auto time = time_text(user.updated_at()); user.has_updated_at() && !time.empty()) json.field("updated_at", time);
  return json.end_object().take();
}

}  // namespace flexi::transports::grpc
