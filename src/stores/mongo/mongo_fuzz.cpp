// SPDX-License-Identifier: Apache-2.0
// What comes from outside: documents that any program may have written, cursors and words that any caller may send.
#include <bson/bson.h>

#include <cstdlib>

#include "stores/mongo/document.hpp"
#include "stores/mongo/log_query.hpp"

using namespace flexi;
using namespace flexi::stores::mongo;

namespace {

bool is_utf8(const std::string& text) { return bson_utf8_validate(text.data(), text.size(), true); }

void read_document(const std::uint8_t* data, std::size_t size) {
  bson_t document;
  // The driver takes what it is sent for a document once its length is right.
  if (!bson_init_static(&document, data, size)) return;
  const Fields fields(&document);
  const auto id = fields.id("_id").value_or(ObjectId{});
  const auto record = read_record(id, fields);
  if (record.id.empty() || !is_utf8(record.name) || !is_utf8(record.data)) std::abort();
  (void)fields.shown("created_at");
  fields.for_each("counts", [](const char*, Fields one) { (void)one.integer("stored"); });
}

void read_query(std::string_view text) {
  if (auto position = from_cursor(text)) {
    const auto cursor = to_cursor(position.value());
    if (to_cursor(from_cursor(cursor).value()) != cursor) std::abort();
    (void)make_filter({}, {}, {}, position.value(), position.value().dated, TextIndex::absent).json();
  }
  auto words = read_words(text);
  if (!words) return;
  core::LogQuery query;
  const auto filter = make_filter(query, words.value(), {}, std::nullopt, true, TextIndex::present);
  bson_t copy;
  if (!words.value().nothing && (!bson_init_static(&copy, bson_get_data(static_cast<const bson_t*>(static_cast<const void*>(filter.get()))), filter.bytes()) ||
                                 !bson_validate(&copy, BSON_VALIDATE_UTF8, nullptr)))
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  if (data[0] & 1) read_document(data + 1, size - 1);
  else read_query({reinterpret_cast<const char*>(data + 1), size - 1});
  return 0;
}
