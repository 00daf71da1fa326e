// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/document.hpp"

#include <bson/bson.h>
#include <openssl/sha.h>

#include <algorithm>
#include <charconv>

#include "core/hops.hpp"
#include "core/timestamp.hpp"

namespace flexi::stores::mongo {

namespace {

constexpr std::size_t kRoomForOurFields = 8 * 1024;

bool is_utf8(std::string_view text) { return bson_utf8_validate(text.data(), text.size(), /*allow_null=*/true); }

/// What another program wrote must not break what we send on: each byte that is not UTF-8 becomes U+FFFD.
std::string as_utf8(std::string_view text) {
  if (is_utf8(text)) return std::string(text);
  std::string clean;
  while (!text.empty()) {
    std::size_t good = 0;
    for (std::size_t size = 1; size <= std::min<std::size_t>(4, text.size()) && good == 0; ++size)
      if (is_utf8(text.substr(0, size))) good = size;
    clean += good ? text.substr(0, good) : std::string_view("\xef\xbf\xbd");
    text.remove_prefix(good ? good : 1);
  }
  return clean;
}

ObjectId hash_of(std::string_view text) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  ObjectId id;
  std::copy_n(digest, id.bytes.size(), id.bytes.begin());
  return id;
}

/// Source: RFC 9562 section 5.7
std::optional<std::uint64_t> milliseconds_of_uuid7(std::string_view text) {
  if (text.size() != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' || text[14] != '7') return std::nullopt;
  const std::string digits = std::string(text.substr(0, 8)) + std::string(text.substr(9, 4));
  std::uint64_t milliseconds = 0;
  auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), milliseconds, 16);
  if (ec != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return milliseconds;
}

}  // namespace

ObjectId place_of(const core::MessageId& id, unsigned attempt) {
  auto text = id.str();
  if (attempt > 0) text += std::string(1, '\0') + std::to_string(attempt);  // no id holds a NUL
  auto place = hash_of(text);
  if (auto milliseconds = milliseconds_of_uuid7(id.str())) {
    const auto seconds = static_cast<std::uint32_t>(*milliseconds / 1000);
    for (int i = 0; i < 4; ++i) place.bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(seconds >> (24 - 8 * i));
  }
  return place;
}

bool is_place_of(const ObjectId& place, const core::MessageId& id) {
  for (unsigned attempt = 0; attempt < kPlaces; ++attempt)
    if (place_of(id, attempt) == place) return true;
  return false;
}

SplitTime split(std::int64_t micros) {
  auto milliseconds = micros / 1000;
  auto rest = static_cast<int>(micros % 1000);
  if (rest < 0) rest += 1000, --milliseconds;
  return {milliseconds, rest};
}

core::Result<void> check_document(const core::LogRecord& record) {
  if (record.id.empty()) return core::invalid_argument("id is required");
  if (!is_utf8(record.name)) return core::invalid_argument("name must be UTF-8");
  if (!is_utf8(record.data)) return core::invalid_argument("data must be UTF-8");
  if (record.name.size() + record.data.size() + record.hops.size() > kMaxDocumentBytes - kRoomForOurFields)
    return core::invalid_argument(std::string(record.data.size() >= record.name.size() ? "data" : "name") + " is too large for MongoDB: an entry takes at most " +
                                  std::to_string(kMaxDocumentBytes - kRoomForOurFields) + " bytes there");
  return core::ok();
}

Bson to_document(const core::LogRecord& record, const ObjectId& place, std::int64_t seq) {
  const auto created = split(core::to_unix_micros(record.created_at)), updated = split(core::to_unix_micros(record.updated_at));
  Bson document;
  document.id("_id", place).text("name", record.name).text("data", record.data);
  document.date("created_at", created.milliseconds).date("updated_at", updated.milliseconds);
  document.text("message_id", record.id.str()).small_integer("created_us", created.micros).small_integer("updated_us", updated.micros);
  if (record.trace_id != core::TraceId{}) document.text("trace_id", core::to_string(record.trace_id));
  if (!record.hops.empty()) document.text("hops", record.hops);
  document.text("via", core::to_string(record.via));
  if (record.published) document.boolean("published", true);
  if (!record.moved) document.integer("seq", seq);  // the ledger counts what has a number
  return document;
}

bool is_message(Fields fields, const core::MessageId& id) { return fields.text("message_id") == std::string_view(id.str()); }

core::LogRecord read_record(const ObjectId& id, Fields fields) {
  const auto time = [&](const char* field, const char* micros) -> std::optional<core::Timestamp> {
    const auto milliseconds = fields.date(field);
    constexpr std::int64_t kFarthest = 9'000'000'000'000;  // the year 2255; not far beyond it Timestamp's nanoseconds have no room
    if (!milliseconds || *milliseconds < -kFarthest || *milliseconds > kFarthest) return std::nullopt;
    return core::from_unix_micros(*milliseconds * 1000 + std::clamp<std::int64_t>(fields.integer(micros).value_or(0), 0, 999));
  };
  core::LogRecord record{.id = {}, .name = as_utf8(fields.shown("name")), .data = as_utf8(fields.shown("data"))};
  record.created_at = time("created_at", "created_us").value_or(core::from_unix_micros(id.seconds() * 1'000'000));
  record.updated_at = time("updated_at", "updated_us").value_or(record.created_at);
  auto message = core::MessageId::parse(fields.text("message_id").value_or(""));
  const bool ours = message && is_place_of(id, message.value());
  record.id = ours ? std::move(message.value()) : core::MessageId::parse(id.hex()).value();
  if (!ours) return record;  // other fields of the same names are somebody else's
  if (auto trace = core::trace_id_from(fields.text("trace_id").value_or(""))) record.trace_id = *trace;
  record.hops = core::lengthen_hops(fields.text("hops").value_or(""), record.created_at);
  record.via = core::via_from(fields.text("via").value_or("")).value_or(core::Via::automatic);
  record.published = fields.boolean("published").value_or(false);
  return record;
}

ObjectId repeat_id(const core::MessageId& id, core::Via via, std::int64_t accepted_at) {
  return hash_of(id.str() + ' ' + std::string(core::to_string(via)) + ' ' + std::to_string(accepted_at));
}

}  // namespace flexi::stores::mongo
