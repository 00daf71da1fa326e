// SPDX-License-Identifier: Apache-2.0
#include "apps/transfer/transfer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "apps/transfer/places.hpp"
#include "core/timestamp.hpp"
#include "runtime/task_scope.hpp"

namespace flexi::apps::transfer {
namespace {

namespace fs = std::filesystem;

core::CallContext a_call() { return core::CallContext::with_timeout(std::chrono::seconds(20)); }

class Transfer : public testing::Test {
 protected:
  Transfer() {
    std::string name = testing::TempDir() + "flexi-transfer-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~Transfer() override { fs::remove_all(folder_); }

  std::unique_ptr<OpenPlaces> open(const std::string& name) {
    auto places = find_places(Settings(), {folder_ + "/" + name}, {true, true}, "--to");
    auto opened = OpenPlaces::open(places.value(), OpenPlaces::Missing::make);
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(opened.value());
  }
  template <class T>
  static T wait(OpenPlaces& places, core::awaitable<T> work) {
    std::optional<T> result;
    places.process().shards.run([](core::awaitable<T> inner, std::optional<T>& out) -> core::awaitable<void> {
      out.emplace(co_await std::move(inner));
    }(std::move(work), result));
    return std::move(*result);
  }
  static core::LogRecord record(int number) {
    core::LogRecord made{.id = core::MessageId::parse("id-" + std::to_string(number)).value(), .name = number % 2 ? "odd" : "even",
                         .data = "entry " + std::to_string(number), .created_at = core::from_unix_micros(1'700'000'000'000'000 + number),
                         .updated_at = core::from_unix_micros(1'700'000'005'000'000),
                         .hops = "broker@1700000000000000", .via = core::Via::grpc};
    made.trace_id[0] = static_cast<std::uint8_t>(number + 1);
    return made;
  }
  static void fill(OpenPlaces& places, int logs) {
    for (auto* email : {"a@example.com", "b@example.com"}) {
      core::User user;
      user.email = email;
      user.password_hash = "$2a$12$hash";
      ASSERT_TRUE(wait(places, places.stores().users->insert(user, a_call())));
    }
    std::optional<int> stored;
    places.process().shards.run(append_all(places, logs, stored));
    ASSERT_EQ(stored, logs);
  }
  /// All at once: one commit.
  static core::awaitable<void> append_all(OpenPlaces& places, int logs, std::optional<int>& stored) {
    int done = 0;
    runtime::TaskScope scope(places.process().shards.executor(0), "fill", runtime::LogSink::none());
    for (int number = 0; number < logs; ++number) scope.spawn(append_one(*places.stores().logs, number, done));
    co_await scope.join();
    stored = done;
  }
  static core::awaitable<void> append_one(core::LogStore& logs, int number, int& done) {
    if (co_await logs.append(record(number), a_call())) ++done;
  }
  core::Result<ExportCounts> save(OpenPlaces& places, const std::string& name, const std::string& what = "all") {
    auto file = ExportWriter::open(folder_ + "/" + name, {what, "test"});
    EXPECT_TRUE(file) << file.error().message;
    auto stores = places.stores();
    if (what == "logs") stores.users = nullptr;
    if (what == "users") stores.logs = nullptr;
    return wait(places, write_export(stores, *file.value(), {}));
  }
  core::Result<Imported> load(OpenPlaces& places, const std::string& name, ImportOptions options = {}) {
    auto file = ExportReader::open(folder_ + "/" + name);
    EXPECT_TRUE(file) << file.error().message;
    return wait(places, read_export(*file.value(), places.stores(), options, {}, runtime::LogSink::none()));
  }
  /// Everything that a page tells of each entry, newest first.
  static std::vector<std::string> listed(OpenPlaces& places) {
    std::vector<std::string> all;
    core::LogQuery query;
    do {
      auto page = wait(places, places.stores().logs->list(query, a_call()));
      for (auto& one : page.value().records)
        all.push_back(one.id.str() + " " + one.name + " " + one.data + " " + core::to_rfc3339(one.created_at) + " " +
                      core::to_rfc3339(one.updated_at) + " " +
                      core::to_string(one.trace_id) + " " + one.hops + " " + std::string(core::to_string(one.via)));
      query.cursor = page.value().next;
    } while (!query.cursor.empty());
    return all;
  }

  std::string folder_;
};

TEST_F(Transfer, WhatIsMovedIsTheSameAndMovedOnce) {
  auto from = open("from"), to = open("to");
  fill(*from, 1234);
  auto saved = save(*from, "file");
  ASSERT_TRUE(saved) << saved.error().message;
  EXPECT_EQ(saved.value(), (ExportCounts{2, 1234}));
  for (int turn = 0; turn < 2; ++turn) {
    auto loaded = load(*to, "file", {.batch = 100});
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded.value().added, turn == 0 ? (ExportCounts{2, 1234}) : ExportCounts{});
    EXPECT_EQ(loaded.value().there, turn == 0 ? ExportCounts{} : (ExportCounts{2, 1234}));
    EXPECT_EQ(loaded.value().conflicts, 0u);
  }
  EXPECT_EQ(listed(*to), listed(*from));
  auto users = wait(*to, to->stores().users->list(a_call())).value();
  ASSERT_EQ(users.size(), 2u);
  EXPECT_EQ(users[0].email, "a@example.com");
  EXPECT_EQ(users[0].password_hash, "$2a$12$hash");
}

TEST_F(Transfer, WhatIsAnothersHereIsNamedAndLeftOut) {
  auto from = open("from"), to = open("to");
  fill(*from, 5);
  ASSERT_TRUE(save(*from, "file"));
  core::User other;
  other.email = "b@example.com";
  other.password_hash = "$2a$12$other";
  ASSERT_TRUE(wait(*to, to->stores().users->insert(other, a_call())));  // takes the id of a@example.com, too
  auto entry = record(3);
  entry.data = "another";
  ASSERT_TRUE(wait(*to, to->stores().logs->append(entry, a_call())));
  auto loaded = load(*to, "file");
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded.value().added, (ExportCounts{0, 4}));
  EXPECT_EQ(loaded.value().conflicts, 3u);
  EXPECT_THAT(loaded.value().conflicting,
              testing::UnorderedElementsAre(testing::HasSubstr("user 1 (a@example.com)"), testing::HasSubstr("user 2 (b@example.com)"),
                                            testing::HasSubstr("log entry id-3")));
}

TEST_F(Transfer, ADamagedFileChangesNothing) {
  auto from = open("from"), to = open("to");
  fill(*from, 50);
  ASSERT_TRUE(save(*from, "file"));
  fs::resize_file(folder_ + "/file", fs::file_size(folder_ + "/file") - 20);
  auto loaded = load(*to, "file");
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, core::ErrorKind::invalid_argument);
  EXPECT_TRUE(listed(*to).empty());
}

TEST_F(Transfer, AnExportGoesOnWhereItEnded) {
  auto from = open("from");
  fill(*from, 1200);
  ASSERT_TRUE(save(*from, "whole", "logs"));
  // As after a kill between two pages: what has come since then is newer, and not part of it.
  fs::copy_file(folder_ + "/whole", folder_ + "/file.partial");
  fs::resize_file(folder_ + "/file.partial", fs::file_size(folder_ + "/whole") * 2 / 3);
  core::LogRecord late = record(5000);
  ASSERT_TRUE(wait(*from, from->stores().logs->append(late, a_call())));
  auto saved = save(*from, "file", "logs");
  ASSERT_TRUE(saved) << saved.error().message;
  EXPECT_EQ(saved.value(), (ExportCounts{0, 1200}));
  auto to = open("to");
  auto loaded = load(*to, "file");
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded.value().added, (ExportCounts{0, 1200}));
}

TEST_F(Transfer, APartNeedsOnePlace) {
  const auto said = [](std::vector<std::string> names) {
    auto found = find_places(Settings(), names, {true, true}, "--to");
    return found ? std::string("found") : found.error().message;
  };
  EXPECT_EQ(said({}), "found");
  EXPECT_EQ(said({"/a"}), "found");
  EXPECT_EQ(said({"/a", "host=x dbname=users", "mongodb://x"}), "found");
  EXPECT_EQ(said({"/a", "postgresql://x/users"}), "found") << "the folder has the rest";
  EXPECT_EQ(said({"/a", "/b"}), "--to names two places for users");
  EXPECT_EQ(said({"mongodb://x"}), "--to names no place for users");
  EXPECT_EQ(said({"host=x"}), "--to names no place for log entries");
  EXPECT_EQ(said({"host=x", "dbname=y", "/a"}), "--to names two places for users");
  EXPECT_EQ(said({"mongodb"}), "mongodb is none while MONGO_URI (FLEXI_MONGO_URI) is not set");
  auto none = find_places(Settings(), {"mongodb://x"}, {true, false}, "--to");
  EXPECT_EQ(none.error().message, "--to mongodb://x keeps log entries only");
}

TEST_F(Transfer, NoPlaceShowsItsPassword) {
  Settings settings;
  settings.postgres.dsn = "host=db.example.com user=me password=s3cret dbname=users";
  settings.mongo.uri = "mongodb://me:s3cret@a.example.com,b.example.com/admin?authSource=x";
  auto places = find_places(settings, {}, {true, true}, "--from").value();
  EXPECT_EQ(shown(places), "postgresql host=db.example.com dbname=users, mongodb://a.example.com,b.example.com/admin");
  settings.postgres.dsn = "postgresql://me:s3cr@t@db:5433/users?sslmode=require";
  EXPECT_EQ(shown(find_places(settings, {}, {true, false}, "--from").value()), "postgresql://db:5433/users");
  settings.mongo.uri = "mongodb://localhost";
  EXPECT_EQ(shown(find_places(settings, {}, {false, true}, "--from").value()), "mongodb://localhost");
}

}  // namespace
}  // namespace flexi::apps::transfer
