// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/bson.hpp"

#include <bson/bson.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace flexi::stores::mongo {

namespace {

int length(std::string_view text) { return static_cast<int>(text.size()); }

/// The typedef promises an alignment that the library's own documents on the heap don't have.
bson_t* raw(_bson_t* document) { return static_cast<bson_t*>(static_cast<void*>(document)); }
const bson_t* raw(const _bson_t* document) { return static_cast<const bson_t*>(static_cast<const void*>(document)); }

bson_oid_t to_oid(const ObjectId& id) {
  bson_oid_t oid;
  std::copy(id.bytes.begin(), id.bytes.end(), oid.bytes);
  return oid;
}

}  // namespace

ObjectId ObjectId::generate() {
  bson_oid_t oid;
  bson_oid_init(&oid, nullptr);
  ObjectId id;
  std::copy_n(oid.bytes, id.bytes.size(), id.bytes.begin());
  return id;
}

std::optional<ObjectId> ObjectId::from_hex(std::string_view hex) {
  ObjectId id;
  if (hex.size() != 2 * id.bytes.size()) return std::nullopt;
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  for (std::size_t i = 0; i < id.bytes.size(); ++i) {
    const int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    id.bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return id;
}

std::string ObjectId::hex() const {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (auto byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::int64_t ObjectId::seconds() const {
  return static_cast<std::int64_t>(std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3]);
}

Bson::Bson() : bson_(bson_new()) {}
Bson::~Bson() {
  if (bson_) bson_destroy(raw(bson_));
}
Bson::Bson(Bson&& other) noexcept : bson_(std::exchange(other.bson_, nullptr)) {}
Bson& Bson::operator=(Bson&& other) noexcept {
  std::swap(bson_, other.bson_);
  return *this;
}

Bson& Bson::text(std::string_view key, std::string_view utf8) {
  bson_append_utf8(raw(bson_), key.data(), length(key), utf8.empty() ? "" : utf8.data(), length(utf8));
  return *this;
}
Bson& Bson::integer(std::string_view key, std::int64_t value) {
  bson_append_int64(raw(bson_), key.data(), length(key), value);
  return *this;
}
Bson& Bson::small_integer(std::string_view key, std::int32_t value) {
  bson_append_int32(raw(bson_), key.data(), length(key), value);
  return *this;
}
Bson& Bson::boolean(std::string_view key, bool value) {
  bson_append_bool(raw(bson_), key.data(), length(key), value);
  return *this;
}
Bson& Bson::date(std::string_view key, std::int64_t milliseconds) {
  bson_append_date_time(raw(bson_), key.data(), length(key), milliseconds);
  return *this;
}
Bson& Bson::id(std::string_view key, const ObjectId& id) {
  const auto oid = to_oid(id);
  bson_append_oid(raw(bson_), key.data(), length(key), &oid);
  return *this;
}
Bson& Bson::null(std::string_view key) {
  bson_append_null(raw(bson_), key.data(), length(key));
  return *this;
}
Bson& Bson::regex(std::string_view key, const std::string& pattern, const char* options) {
  bson_append_regex(raw(bson_), key.data(), length(key), pattern.c_str(), options);
  return *this;
}
Bson& Bson::document(std::string_view key, const Bson& value) {
  bson_append_document(raw(bson_), key.data(), length(key), raw(value.bson_));
  return *this;
}

namespace {

/// Appends an array whose elements `append(child, index as text)` gives.
template <class Items, class Append>
void append_array(bson_t* bson, std::string_view key, const Items& items, Append append) {
  bson_t child;
  bson_append_array_begin(bson, key.data(), length(key), &child);
  std::uint32_t index = 0;
  for (auto& item : items) append(&child, std::to_string(index++), item);
  bson_append_array_end(bson, &child);
}

}  // namespace

Bson& Bson::array(std::string_view key, const std::vector<Bson>& documents) {
  append_array(raw(bson_), key, documents, [](bson_t* child, const std::string& at, const Bson& each) { bson_append_document(child, at.c_str(), length(at), raw(each.bson_)); });
  return *this;
}
Bson& Bson::ids(std::string_view key, const std::vector<ObjectId>& ids) {
  append_array(raw(bson_), key, ids, [](bson_t* child, const std::string& at, const ObjectId& each) {
    const auto oid = to_oid(each);
    bson_append_oid(child, at.c_str(), length(at), &oid);
  });
  return *this;
}
Bson& Bson::texts(std::string_view key, const std::vector<std::string>& texts) {
  append_array(raw(bson_), key, texts, [](bson_t* child, const std::string& at, const std::string& each) {
    bson_append_utf8(child, at.c_str(), length(at), each.data(), length(each));
  });
  return *this;
}

std::size_t Bson::bytes() const { return bson_->len; }

std::string Bson::json() const {
  char* text = bson_as_relaxed_extended_json(raw(bson_), nullptr);
  if (!text) return "(not valid BSON)";
  std::string copy(text);
  bson_free(text);
  return copy;
}

std::optional<std::string_view> Fields::text(const char* key) const {
  bson_iter_t at;
  if (!bson_iter_init_find(&at, raw(document_), key) || !BSON_ITER_HOLDS_UTF8(&at)) return std::nullopt;
  std::uint32_t size = 0;
  const char* text = bson_iter_utf8(&at, &size);
  return std::string_view(text, size);
}

std::optional<std::int64_t> Fields::integer(const char* key) const {
  bson_iter_t at;
  if (!bson_iter_init_find(&at, raw(document_), key) || !BSON_ITER_HOLDS_NUMBER(&at)) return std::nullopt;
  if (BSON_ITER_HOLDS_DOUBLE(&at)) {
    const double value = bson_iter_double(&at);
    if (!(value > -9e18 && value < 9e18)) return std::nullopt;
    return static_cast<std::int64_t>(value);
  }
  return bson_iter_as_int64(&at);
}

std::optional<bool> Fields::boolean(const char* key) const {
  bson_iter_t at;
  if (!bson_iter_init_find(&at, raw(document_), key) || !BSON_ITER_HOLDS_BOOL(&at)) return std::nullopt;
  return bson_iter_bool(&at);
}

std::optional<std::int64_t> Fields::date(const char* key) const {
  bson_iter_t at;
  if (!bson_iter_init_find(&at, raw(document_), key) || !BSON_ITER_HOLDS_DATE_TIME(&at)) return std::nullopt;
  return bson_iter_date_time(&at);
}

std::optional<ObjectId> Fields::id(const char* key) const {
  bson_iter_t at;
  if (!bson_iter_init_find(&at, raw(document_), key) || !BSON_ITER_HOLDS_OID(&at)) return std::nullopt;
  ObjectId id;
  std::copy_n(bson_iter_oid(&at)->bytes, id.bytes.size(), id.bytes.begin());
  return id;
}

bool Fields::has(const char* key) const { return bson_has_field(raw(document_), key); }

std::string Fields::shown(const char* key) const {
  if (auto plain = text(key)) return std::string(*plain);
  bson_iter_t at;
  if (!bson_iter_init_find(&at, raw(document_), key) || BSON_ITER_HOLDS_NULL(&at)) return {};
  Bson lone;
  bson_append_iter(raw(lone.bson_), "v", 1, &at);
  auto json = lone.json();  // {"v" : …}
  const auto begin = json.find(':');
  const auto end = json.rfind('}');
  if (begin == std::string::npos || end == std::string::npos || end <= begin) return json;
  auto value = json.substr(begin + 1, end - begin - 1);
  value.erase(0, value.find_first_not_of(' '));
  value.erase(value.find_last_not_of(' ') + 1);
  return value;
}

namespace {

void show(const bson_iter_t& at, void (*visit)(void*, const char*, const bson_t*), void* context) {
  const std::uint8_t* data = nullptr;
  std::uint32_t size = 0;
  bson_iter_document(&at, &size, &data);
  bson_t inner;
  if (bson_init_static(&inner, data, size)) visit(context, bson_iter_key(&at), &inner);
}

}  // namespace

void Fields::visit(const char* key, Visit visit, void* context) const {
  bson_iter_t at, child;
  if (!bson_iter_init_find(&at, raw(document_), key) || !(BSON_ITER_HOLDS_DOCUMENT(&at) || BSON_ITER_HOLDS_ARRAY(&at)) || !bson_iter_recurse(&at, &child)) return;
  while (bson_iter_next(&child))
    if (BSON_ITER_HOLDS_DOCUMENT(&child)) show(child, visit, context);
}

void Fields::visit_one(const char* key, Visit visit, void* context) const {
  bson_iter_t at;
  if (bson_iter_init_find(&at, raw(document_), key) && BSON_ITER_HOLDS_DOCUMENT(&at)) show(at, visit, context);
}

}  // namespace flexi::stores::mongo
