// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct _bson_t;

namespace flexi::stores::mongo {

/// Source: https://www.mongodb.com/docs/manual/reference/bson-types/#objectid
struct ObjectId {
  std::array<std::uint8_t, 12> bytes{};

  static ObjectId generate();
  /// @return none unless 24 lower-case hex digits
  static std::optional<ObjectId> from_hex(std::string_view hex);
  std::string hex() const;
  /// Its first four bytes as a time: that of its making, where it is no hash.
  std::int64_t seconds() const;
  friend auto operator<=>(const ObjectId&, const ObjectId&) = default;
};

/// One document as it is built, field by field: `Bson query; query.text("name", name).integer("n", 1);`
/// Lifetime/threads: a resource of one thread at a time
class Bson {
 public:
  Bson();
  ~Bson();
  Bson(Bson&&) noexcept;
  Bson& operator=(Bson&&) noexcept;

  Bson& text(std::string_view key, std::string_view utf8);
  Bson& integer(std::string_view key, std::int64_t value);    ///< int64
  Bson& small_integer(std::string_view key, std::int32_t value);
  Bson& boolean(std::string_view key, bool value);
  Bson& date(std::string_view key, std::int64_t milliseconds);
  Bson& id(std::string_view key, const ObjectId& id);
  Bson& null(std::string_view key);
  Bson& regex(std::string_view key, const std::string& pattern, const char* options);
  Bson& document(std::string_view key, const Bson& value);
  Bson& array(std::string_view key, const std::vector<Bson>& documents);
  Bson& ids(std::string_view key, const std::vector<ObjectId>& ids);
  Bson& texts(std::string_view key, const std::vector<std::string>& texts);

  std::size_t bytes() const;
  const _bson_t* get() const { return bson_; }
  std::string json() const;  ///< relaxed extended JSON, for logs and tests

 private:
  friend class Fields;
  _bson_t* bson_;
};

/// One document as it is read: each field in the type asked for, or none.
/// Lifetime/threads: a view of what the driver holds, until its next step
class Fields {
 public:
  explicit Fields(const _bson_t* document) : document_(document) {}
  std::optional<std::string_view> text(const char* key) const;
  std::optional<std::int64_t> integer(const char* key) const;  ///< of any numeric type, as a whole number
  std::optional<bool> boolean(const char* key) const;
  std::optional<std::int64_t> date(const char* key) const;     ///< milliseconds since 1970
  std::optional<ObjectId> id(const char* key) const;
  bool has(const char* key) const;
  /// Any value for people to read: a string as it is, anything else as extended JSON; "" where there is none.
  std::string shown(const char* key) const;
  /// Calls `each(key, fields)` for the documents in the document or array at `key`.
  template <class Each>
  void for_each(const char* key, Each each) const;
  /// Calls `use(fields)` for the document at `key`, where there is one.
  template <class Use>
  void with(const char* key, Use use) const;
  const _bson_t* get() const { return document_; }

 private:
  using Visit = void (*)(void* context, const char* key, const _bson_t* document);
  void visit(const char* key, Visit visit, void* context) const;
  void visit_one(const char* key, Visit visit, void* context) const;
  const _bson_t* document_;
};

template <class Each>
void Fields::for_each(const char* key, Each each) const {
  visit(key, [](void* context, const char* name, const _bson_t* document) { (*static_cast<Each*>(context))(name, Fields(document)); }, &each);
}

template <class Use>
void Fields::with(const char* key, Use use) const {
  visit_one(key, [](void* context, const char*, const _bson_t* document) { (*static_cast<Use*>(context))(Fields(document)); }, &use);
}

}  // namespace flexi::stores::mongo
