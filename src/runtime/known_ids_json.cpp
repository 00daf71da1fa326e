// SPDX-License-Identifier: Apache-2.0
#include "runtime/known_ids_json.hpp"

#include "core/timestamp.hpp"
#include "runtime/json.hpp"

namespace flexi::runtime {

using core::Result;

namespace {

Result<std::vector<core::MessageId>> parse_all(const std::vector<std::string>& texts) {
  std::vector<core::MessageId> ids;
  ids.reserve(texts.size());
  for (auto& text : texts) {
    FLEXI_TRY(auto id, core::MessageId::parse(text));
    ids.push_back(std::move(id));
  }
  return ids;
}

}  // namespace

Result<std::vector<core::MessageId>> read_ids(std::string_view params) {
  FLEXI_TRY(auto object, JsonObject::parse(params));
  FLEXI_TRY(auto texts, object.strings("ids"));
  FLEXI_TRY(object.nothing_unknown());
  if (!texts) return core::invalid_argument("ids is required");
  if (texts->size() > core::KnownIds::kMost) return core::invalid_argument("ids must be at most " + std::to_string(core::KnownIds::kMost));
  return parse_all(*texts);
}

std::string to_json(const core::KnownIds& known) {
  JsonWriter json;
  json.begin_object().key("known").begin_array();
  for (auto& id : known.ids) json.value(id.str());
  json.end_array();
  if (known.kept_since != core::Timestamp{}) json.field("kept_since", core::to_rfc3339(known.kept_since));
  return json.end_object().take();
}

Result<core::KnownIds> read_known_ids(std::string_view json) {
  auto read = [json]() -> Result<core::KnownIds> {
    core::KnownIds known;
    FLEXI_TRY(auto object, JsonObject::parse(json));
    FLEXI_TRY(auto texts, object.strings("known"));
    if (!texts) return core::invalid_argument("known is missing");
    FLEXI_TRY(known.ids, parse_all(*texts));
    FLEXI_TRY(auto since, object.string("kept_since"));
    if (since) {
      FLEXI_TRY(known.kept_since, core::parse_rfc3339(*since));
    }
    return known;
  };
  auto known = read();
  if (!known) return core::internal("internal error", "which ids are known was not understood: " + known.error().message);
  return known;
}

}  // namespace flexi::runtime
