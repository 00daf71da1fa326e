// SPDX-License-Identifier: Apache-2.0
#include "runtime/json.hpp"

#include <gtest/gtest.h>

#include "core/timestamp.hpp"
#include "runtime/known_ids_json.hpp"

namespace flexi::runtime {
namespace {

std::string json_of(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(JsonString, EscapesWhatJsonAsksFor) {
  EXPECT_EQ(json_of("plain"), R"("plain")");
  EXPECT_EQ(json_of("a\"b\\c\nd\re\tf"), R"("a\"b\\c\nd\re\tf")");
  EXPECT_EQ(json_of(std::string_view("\0\x1f", 2)), R"("\u0000\u001f")");
  EXPECT_EQ(json_of("\b\f"), R"("\b\f")") << "no longer than a caller may have written it";
  EXPECT_EQ(json_of("é€😀"), "\"é€😀\"");
}

TEST(JsonString, InvalidUtf8BecomesTheReplacementCharacter) {
  // lone continuation, overlong, surrogate, beyond U+10FFFF, cut short
  for (std::string bad : {"\x80", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"}) {
    const auto json = json_of("a" + bad + "b");
    EXPECT_TRUE(is_json(json)) << json;
    EXPECT_NE(json.find("\xEF\xBF\xBD"), std::string::npos);
  }
}

TEST(JsonWriter, PutsCommasWhereTheyBelong) {
  JsonWriter json;
  json.begin_object().field("a", 1).field("b", true).key("c").begin_array().value("x").begin_object().end_object().value(1.5).end_array().end_object();
  EXPECT_EQ(json.take(), R"({"a":1,"b":true,"c":["x",{},1.5]})");
}

TEST(JsonObject, ReadsFieldsAndNamesTheWrongOnes) {
  auto object = JsonObject::parse(R"({"s":"x","n":5,"t":"7","f":true,"g":"false","nothing":null,"a":[1]})").value();
  EXPECT_EQ(object.string("s").value(), "x");
  EXPECT_EQ(object.integer("n").value(), 5);
  EXPECT_EQ(object.integer("t").value(), 7);
  EXPECT_EQ(object.boolean("f").value(), true);
  EXPECT_EQ(object.boolean("g").value(), false);
  EXPECT_EQ(object.string("nothing").value(), std::nullopt);
  EXPECT_EQ(object.string("missing").value(), std::nullopt);
  EXPECT_EQ(object.string("a").error().message, "a must be a string");
  EXPECT_EQ(object.integer("s").error().message, "s must be an integer");
  EXPECT_EQ(object.required_string("missing").error().message, "missing is required");
}

TEST(JsonObject, ReadsArraysOfStrings) {
  auto object = JsonObject::parse(R"({"some":["a","b\"c"],"none":[],"mixed":["a",1],"text":"a","object":{"a":"b"}})").value();
  EXPECT_EQ(object.strings("some").value(), (std::vector<std::string>{"a", "b\"c"}));
  EXPECT_EQ(object.strings("none").value(), std::vector<std::string>{});
  EXPECT_EQ(object.strings("missing").value(), std::nullopt);
  for (auto wrong : {"mixed", "text", "object"}) EXPECT_EQ(object.strings(wrong).error().message, std::string(wrong) + " must be an array of strings");
}

TEST(KnownIds, AreWrittenAndReadBack) {
  EXPECT_EQ(read_ids(R"({"ids":["a","~admin~b"]})").value().at(1).str(), "~admin~b");
  EXPECT_TRUE(read_ids(R"({"ids":[]})").value().empty());
  std::string many;
  for (int i = 0; i < 1001; ++i) many.append(many.empty() ? "" : ",").append("\"i").append(std::to_string(i)).append("\"");
  for (auto wrong : {std::string("{}"), std::string(R"({"ids":"a"})"), std::string(R"({"ids":["a b"]})"), std::string(R"({"ids":[],"id":"a"})"), "{\"ids\":[" + many + "]}"})
    EXPECT_EQ(read_ids(wrong).error().kind, core::ErrorKind::invalid_argument) << wrong;
  core::KnownIds known;
  EXPECT_EQ(to_json(known), R"({"known":[]})");
  known.ids.push_back(core::MessageId::parse("a").value());
  known.kept_since = core::parse_rfc3339("2026-11-18T11:06:40.000001Z").value();
  EXPECT_EQ(to_json(known), R"({"known":["a"],"kept_since":"2026-11-18T11:06:40.000001Z"})");
  const auto read = read_known_ids(to_json(known)).value();
  EXPECT_EQ(read.ids, known.ids);
  EXPECT_EQ(read.kept_since, known.kept_since);
  for (auto wrong : {"", "[]", "{}", R"({"known":[1]})", R"({"known":["a b"]})", R"({"known":[],"kept_since":"soon"})"}) EXPECT_EQ(read_known_ids(wrong).error().kind, core::ErrorKind::internal) << wrong;
}

TEST(JsonObject, RefusesWhatIsNotOneObject) {
  for (std::string text : {"", "[]", "1", "{} {}", "{\"a\":}", "{\"a\":\"\xff\"}"}) EXPECT_FALSE(JsonObject::parse(text)) << text;
}

TEST(JsonObject, WhatNobodyAskedForIsUnknown) {
  auto object = JsonObject::parse(R"({"limt":3,"cursor":"c"})").value();
  EXPECT_FALSE(object.nothing_unknown());
  EXPECT_TRUE(object.integer("limit"));
  EXPECT_TRUE(object.string("cursor"));
  const auto unknown = object.nothing_unknown();
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, core::ErrorKind::invalid_argument);
  EXPECT_EQ(unknown.error().message, R"(unknown parameter "limt": known are limit, cursor)");
  auto right = JsonObject::parse(R"({"limit":3})").value();
  EXPECT_TRUE(right.integer("limit"));
  EXPECT_TRUE(right.nothing_unknown());
}

}  // namespace
}  // namespace flexi::runtime
