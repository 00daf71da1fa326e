// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/document.hpp"

#include <bson/bson.h>
#include <gtest/gtest.h>

#include <set>

#include "core/timestamp.hpp"

namespace flexi::stores::mongo {
namespace {

core::MessageId id_of(std::string_view text) { return core::MessageId::parse(text).value(); }

TEST(Place, FollowsFromTheIdAlone) {
  const auto id = core::MessageId::generate();
  EXPECT_EQ(place_of(id, 0), place_of(id_of(id.str()), 0));
  std::set<ObjectId> places;
  for (unsigned i = 0; i < kPlaces; ++i) {
    EXPECT_TRUE(places.insert(place_of(id, i)).second);
    EXPECT_TRUE(is_place_of(place_of(id, i), id));
  }
  EXPECT_FALSE(is_place_of(place_of(core::MessageId::generate(), 0), id));
}

TEST(Place, BeginsWithTheSecondsOfAUuid7) {
  const auto id = id_of("018bcfe5-6800-7000-8000-000000000001");  // 1,700,000,000,000 ms
  for (unsigned i = 0; i < kPlaces; ++i) EXPECT_EQ(place_of(id, i).seconds(), 1'700'000'000);
  EXPECT_EQ(place_of(id, 0).hex().substr(0, 8), "6553f100");
}

TEST(Place, OfWhatTellsNoTimeIsAHashAsAWhole) {
  for (auto key : {"order-17", "~admin~order-17", "018bcfe5-6800-4000-8000-000000000001", "018bcfe5-68zz-7000-8000-000000000001"}) {
    EXPECT_EQ(place_of(id_of(key), 0), place_of(id_of(key), 0));
    EXPECT_NE(place_of(id_of(key), 0).hex().substr(0, 8), "6553f100") << key;
  }
}

TEST(Time, IsSplitAtMillisecondsBeforeAndAfter1970) {
  EXPECT_EQ(split(1'700'000'000'123'456).milliseconds, 1'700'000'000'123);
  EXPECT_EQ(split(1'700'000'000'123'456).micros, 456);
  EXPECT_EQ(split(-1).milliseconds, -1);
  EXPECT_EQ(split(-1).micros, 999);
  EXPECT_EQ(split(-1000).milliseconds, -1);
  EXPECT_EQ(split(-1000).micros, 0);
}

TEST(Document, HoldsTheContractsFieldsInTheContractsTypes) {
  core::LogRecord record{core::MessageId::generate(), "event", "something", core::from_unix_micros(1'700'000'000'123'456), core::from_unix_micros(1'700'000'001'000'000)};
  record.via = core::Via::amqp;
  record.published = true;
  const auto place = place_of(record.id, 0);
  const auto document = to_document(record, place, 7);
  const Fields fields(document.get());
  EXPECT_EQ(fields.id("_id"), place);
  EXPECT_EQ(fields.text("name"), "event");
  EXPECT_EQ(fields.text("data"), "something");
  EXPECT_EQ(fields.date("created_at"), 1'700'000'000'123);
  EXPECT_EQ(fields.date("updated_at"), 1'700'000'001'000);
  EXPECT_EQ(fields.integer("seq"), 7);
  const auto read = read_record(place, fields);
  EXPECT_EQ(read.id, record.id);
  EXPECT_EQ(read.created_at, record.created_at);
  EXPECT_EQ(read.via, core::Via::amqp);
  EXPECT_TRUE(read.published);
}

TEST(Document, OfAnotherProgramIsReadWhateverItHolds) {
  const auto id = ObjectId::from_hex("6553f1000000000000000001").value();
  Bson strange, inner;
  inner.integer("a", 1);
  strange.id("_id", id).integer("name", 5).document("data", inner).text("created_at", "yesterday").text("message_id", "somebody's").text("via", "http").integer("hops", 3);
  const auto record = read_record(id, Fields(strange.get()));
  EXPECT_EQ(record.id.str(), "6553f1000000000000000001");
  EXPECT_EQ(record.name, "5");
  EXPECT_EQ(record.data, "{ \"a\" : 1 }");
  EXPECT_EQ(core::to_rfc3339(record.created_at), "2023-11-14T22:13:20.000000Z");
  EXPECT_EQ(record.via, core::Via::automatic);
  EXPECT_EQ(record.hops, "");
  const auto empty = read_record(id, Fields(Bson().get()));
  EXPECT_EQ(empty.name, "");
  EXPECT_EQ(empty.data, "");
}

TEST(Document, OfAnotherProgramThatIsNotUtf8IsReadAsUtf8) {
  const auto id = ObjectId::generate();
  Bson broken;
  broken.text("name", "a\xff\xc3").text("data", "Zo\xc3\xab \xf0\x9f\xa6\x8a\xf0\x9f");
  const auto record = read_record(id, Fields(broken.get()));
  EXPECT_EQ(record.name, "a\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(record.data, "Zo\xc3\xab \xf0\x9f\xa6\x8a\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(Document, WhatIsNoUtf8OrTooLargeIsRefusedByName) {
  core::LogRecord record{core::MessageId::generate(), "n", "d", {}, {}};
  EXPECT_TRUE(check_document(record));
  record.name = "\xff";
  EXPECT_EQ(check_document(record).error().message, "name must be UTF-8");
  record.name = "n", record.data = "\xc3";
  EXPECT_EQ(check_document(record).error().message, "data must be UTF-8");
  record.data.assign(kMaxDocumentBytes, 'x');
  EXPECT_EQ(check_document(record).error().kind, core::ErrorKind::invalid_argument);
  EXPECT_TRUE(check_document(record).error().message.starts_with("data is too large for MongoDB"));
  record.data.assign(kMaxDocumentBytes - 8 * 1024 - 1, 'x');
  ASSERT_TRUE(check_document(record));
  record.hops = "";
  EXPECT_LE(to_document(record, ObjectId{}, 1).bytes(), kMaxDocumentBytes);
  record.id = {};
  EXPECT_EQ(check_document(record).error().message, "id is required");
}

TEST(ObjectIds, AreReadFromLowerCaseHexOnly) {
  EXPECT_EQ(ObjectId::from_hex("00112233445566778899aabb")->hex(), "00112233445566778899aabb");
  for (auto wrong : {"", "00112233445566778899aab", "00112233445566778899aabbc", "00112233445566778899AABB", "0011223344556677889 aabb"})
    EXPECT_FALSE(ObjectId::from_hex(wrong)) << wrong;
}

}  // namespace
}  // namespace flexi::stores::mongo
