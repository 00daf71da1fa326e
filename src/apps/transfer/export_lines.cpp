// SPDX-License-Identifier: Apache-2.0
#include "apps/transfer/export_lines.hpp"

#include <openssl/evp.h>

#include <array>
#include <cstdlib>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"

namespace flexi::apps::transfer {

using core::Result;
using runtime::JsonObject;
using runtime::JsonWriter;

namespace {

/// Without SHA-256 nothing here can keep its word.
void must(bool done) {
  if (!done) std::abort();
}

void write(JsonWriter& json, const ExportHeader& header) {
  json.field("type", "export").field("version", kExportVersion).field("what", header.what).field("from", header.from);
}

void write(JsonWriter& json, const core::User& user) {
  json.field("type", "user").field("id", user.id).field("email", user.email).field("first_name", user.first_name).field("last_name", user.last_name);
  json.field("password", user.password_hash).field("active", int{user.active});
  json.field("created_at", core::to_rfc3339(user.created_at)).field("updated_at", core::to_rfc3339(user.updated_at));
}

void write(JsonWriter& json, const core::LogRecord& record) {
  json.field("type", "log").field("id", record.id.str()).field("name", record.name).field("data", record.data);
  json.field("created_at", core::to_rfc3339(record.created_at)).field("updated_at", core::to_rfc3339(record.updated_at));
  if (auto trace = core::to_string(record.trace_id); !trace.empty()) json.field("trace_id", trace);
  if (!record.hops.empty()) json.field("hops", record.hops);
  json.field("via", core::to_string(record.via));
}

void write(JsonWriter& json, const CheckpointLine& line) {
  json.field("type", "checkpoint").field("users", line.counts.users).field("logs", line.counts.logs).field("cursor", line.cursor);
}

void write(JsonWriter& json, const EndLine& line) {
  json.field("type", "end").field("users", line.counts.users).field("logs", line.counts.logs).field("sha256", line.sha256);
}

Result<std::int64_t> required_integer(const JsonObject& fields, std::string_view name) {
  FLEXI_TRY(auto number, fields.integer(name));
  if (!number) return core::invalid_argument(std::string(name) + " is required");
  return *number;
}

Result<core::Timestamp> required_time(const JsonObject& fields, std::string_view name) {
  FLEXI_TRY(auto text, fields.required_string(name));
  auto time = core::parse_rfc3339(text);
  if (!time) return core::invalid_argument(std::string(name) + ": " + time.error().message);
  return time.value();
}

Result<ExportCounts> read_counts(const JsonObject& fields) {
  FLEXI_TRY(auto users, required_integer(fields, "users"));
  FLEXI_TRY(auto logs, required_integer(fields, "logs"));
  if (users < 0 || logs < 0) return core::invalid_argument("counts can't be below 0");
  return ExportCounts{static_cast<std::uint64_t>(users), static_cast<std::uint64_t>(logs)};
}

Result<ExportHeader> read_header(const JsonObject& fields) {
  FLEXI_TRY(auto version, required_integer(fields, "version"));
  if (version != kExportVersion)
    return core::invalid_argument("version " + std::to_string(version) + " is not known here, " + std::to_string(kExportVersion) +
                                  " is: a newer program wrote the file");
  ExportHeader header;
  FLEXI_TRY(header.what, fields.required_string("what"));
  FLEXI_TRY(header.from, fields.required_string("from"));
  return header;
}

Result<core::User> read_user(const JsonObject& fields) {
  core::User user;
  FLEXI_TRY(user.id, required_integer(fields, "id"));
  FLEXI_TRY(user.email, fields.required_string("email"));
  FLEXI_TRY(user.first_name, fields.required_string("first_name"));
  FLEXI_TRY(user.last_name, fields.required_string("last_name"));
  FLEXI_TRY(user.password_hash, fields.required_string("password"));
  FLEXI_TRY(auto active, required_integer(fields, "active"));
  user.active = active != 0;
  FLEXI_TRY(user.created_at, required_time(fields, "created_at"));
  FLEXI_TRY(user.updated_at, required_time(fields, "updated_at"));
  return user;
}

Result<core::LogRecord> read_log(const JsonObject& fields) {
  core::LogRecord record;
  FLEXI_TRY(auto id, fields.required_string("id"));
  FLEXI_TRY(record.id, core::MessageId::parse(id));
  FLEXI_TRY(record.name, fields.required_string("name"));
  FLEXI_TRY(record.data, fields.required_string("data"));
  FLEXI_TRY(record.created_at, required_time(fields, "created_at"));
  FLEXI_TRY(record.updated_at, required_time(fields, "updated_at"));
  FLEXI_TRY(auto trace, fields.string("trace_id"));
  if (trace) {
    auto parsed = core::trace_id_from(*trace);
    if (!parsed) return core::invalid_argument("trace_id must be 32 hexadecimal digits in lower case");
    record.trace_id = *parsed;
  }
  FLEXI_TRY(auto hops, fields.string("hops"));
  record.hops = hops.value_or("");
  FLEXI_TRY(auto via, fields.required_string("via"));
  const auto known = core::via_from(via);
  if (!known) return core::invalid_argument("via \"" + via + "\" is no way");
  record.via = *known;
  record.moved = true;
  return record;
}

Result<ExportLine> read_line(const JsonObject& fields) {
  FLEXI_TRY(auto type, fields.required_string("type"));
  if (type == "log") {
    FLEXI_TRY(auto record, read_log(fields));
    return ExportLine(std::move(record));
  }
  if (type == "user") {
    FLEXI_TRY(auto user, read_user(fields));
    return ExportLine(std::move(user));
  }
  if (type == "export") {
    FLEXI_TRY(auto header, read_header(fields));
    return ExportLine(std::move(header));
  }
  if (type != "checkpoint" && type != "end") return core::invalid_argument("type \"" + type + "\" is not known");
  FLEXI_TRY(auto counts, read_counts(fields));
  FLEXI_TRY(auto text, fields.required_string(type == "end" ? "sha256" : "cursor"));
  if (type == "end") return ExportLine(EndLine{counts, std::move(text)});
  return ExportLine(CheckpointLine{counts, std::move(text)});
}

}  // namespace

Checksum::Checksum() : context_(EVP_MD_CTX_new()) { must(context_ && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1); }
Checksum::Checksum(const Checksum& other) : context_(EVP_MD_CTX_new()) { must(context_ && EVP_MD_CTX_copy_ex(context_, other.context_) == 1); }
Checksum& Checksum::operator=(const Checksum& other) {
  if (this != &other) must(EVP_MD_CTX_copy_ex(context_, other.context_) == 1);
  return *this;
}
Checksum::~Checksum() { EVP_MD_CTX_free(context_); }

void Checksum::add(std::string_view bytes) { must(EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1); }

std::string Checksum::hex() const {
  Checksum copy(*this);
  std::array<unsigned char, 32> digest{};
  must(EVP_DigestFinal_ex(copy.context_, digest.data(), nullptr) == 1);
  std::string text;
  for (unsigned char byte : digest) text.append(1, "0123456789abcdef"[byte >> 4]).append(1, "0123456789abcdef"[byte & 15]);
  return text;
}

std::string to_line(const ExportLine& line) {
  JsonWriter json;
  json.begin_object();
  std::visit([&](auto& content) { write(json, content); }, line);
  return json.end_object().take() + "\n";
}

Result<ExportLine> parse_line(std::string_view line) {
  auto fields = JsonObject::parse(line);
  if (!fields) return core::invalid_argument("it is no JSON object");
  FLEXI_TRY(auto read, read_line(fields.value()));
  FLEXI_TRY(fields.value().nothing_unknown());
  return read;
}

}  // namespace flexi::apps::transfer
