// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/log_query.hpp"

#include <gtest/gtest.h>

#include <regex>

#include "core/timestamp.hpp"

namespace flexi::stores::mongo {
namespace {

TEST(Cursor, IsReadBack) {
  for (LogPosition position : {LogPosition{true, 1'700'000'000'123, 456, ObjectId::generate()}, LogPosition{true, -5, 0, ObjectId{}},
                               LogPosition{true, 1, -1, ObjectId::generate()}, LogPosition{false, 0, -1, ObjectId::generate()}}) {
    const auto read = from_cursor(to_cursor(position)).value();
    EXPECT_EQ(read.dated, position.dated);
    EXPECT_EQ(read.milliseconds, position.milliseconds);
    EXPECT_EQ(read.micros, position.micros);
    EXPECT_EQ(read.id, position.id);
  }
}

TEST(Cursor, OfNobodyIsRefused) {
  const auto good = to_cursor({true, 1, 2, ObjectId::generate()});
  for (auto wrong : {std::string(), std::string("x"), good.substr(1), good + "0", "u" + good.substr(1), "d" + std::string(44, 'g'), "d" + std::string(16, '0') + "03e8" + std::string(24, '0')})
    EXPECT_EQ(from_cursor(wrong).error().kind, core::ErrorKind::invalid_argument) << wrong;
}

/// By ECMAScript's engine, in ASCII.
bool finds(const std::string& q, const std::string& text) {
  const auto words = read_words(q).value();
  for (auto pattern : words.patterns) {
    for (std::size_t at; (at = pattern.find("\\p{L}\\p{N}")) != std::string::npos;) pattern.replace(at, 10, "a-zA-Z0-9");
    if (!std::regex_search(text, std::regex(pattern, std::regex::icase))) return false;
  }
  return true;
}

TEST(Words, AreWholeInAnyOrderAndCase) {
  EXPECT_TRUE(finds("entry NUMBER5", "An Entry, number5."));
  EXPECT_TRUE(finds("number5 entry", "entry number5"));
  EXPECT_FALSE(finds("entr", "entry"));
  EXPECT_FALSE(finds("try", "entry"));
  EXPECT_TRUE(finds("entr*", "entry"));
  EXPECT_FALSE(finds("try*", "entry"));
  EXPECT_TRUE(finds("order_17", "order 17"));
  EXPECT_FALSE(finds("order_17", "17 order"));
  EXPECT_TRUE(finds("a.c", "a c"));
  EXPECT_FALSE(finds("a.c", "abc")) << "nothing of a word is syntax";
}

TEST(Words, WithoutALetterFindNothing) {
  for (auto q : {"'", "\"", "*", "(", "%", "{\"$\":\"\"}", "- -"}) EXPECT_TRUE(read_words(q).value().nothing) << q;
  EXPECT_TRUE(read_words("\xff").value().nothing) << "no entry holds what is not UTF-8";
  EXPECT_FALSE(read_words("").value().nothing);
  EXPECT_FALSE(read_words("* a").value().nothing);
  EXPECT_FALSE(read_words("\xe6\x9d\x8e").value().nothing);
}

TEST(Words, AreNotWithoutEnd) {
  std::string q;
  for (int i = 0; i < 64; ++i) q += "w ";
  EXPECT_TRUE(read_words(q));
  EXPECT_EQ(read_words(q + "w").error().kind, core::ErrorKind::invalid_argument);
}

TEST(Filter, AsksTheTextIndexWhereThereIsOneAndItCanHelp) {
  const auto filter = [](const std::string& q, TextIndex index) {
    core::LogQuery query;
    query.q = q;
    return make_filter(query, read_words(q).value(), {}, std::nullopt, true, index).json();
  };
  EXPECT_EQ(filter("order 17", TextIndex::absent).find("$text"), std::string::npos);
  EXPECT_NE(filter("order 17", TextIndex::present).find(R"("$text" : { "$search" : "\"order\" \"17\"" })"), std::string::npos) << filter("order 17", TextIndex::present);
  EXPECT_EQ(filter("ord*", TextIndex::present).find("$text"), std::string::npos);
  EXPECT_NE(filter("order", TextIndex::present).find("$regularExpression"), std::string::npos) << "$text alone finds more";
}

TEST(Filter, TakesATextForWhatItIs) {
  core::LogQuery query;
  query.name = R"({"$gt":""})";
  const auto filter = make_filter(query, {}, {}, std::nullopt, true, TextIndex::absent);
  EXPECT_EQ(Fields(filter.get()).text("name"), query.name);
}

}  // namespace
}  // namespace flexi::stores::mongo
