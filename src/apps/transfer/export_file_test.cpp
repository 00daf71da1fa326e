// SPDX-License-Identifier: Apache-2.0
#include "apps/transfer/export_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/timestamp.hpp"

namespace flexi::apps::transfer {
namespace {

namespace fs = std::filesystem;

core::User user(std::int64_t id) {
  return {.id = id, .email = "user" + std::to_string(id) + "@example.com", .first_name = "Zoë", .last_name = "\"O'Neil\"\n",
          .password_hash = "$2a$12$x", .active = id % 2 == 0,
          .created_at = core::from_unix_micros(1'700'000'000'123'456), .updated_at = core::from_unix_micros(1'700'000'001'000'001)};
}

core::LogRecord record(int number) {
  return {.id = core::MessageId::parse("id-" + std::to_string(number)).value(), .name = "event",
          .data = std::string("a\0b\n\\\"\xF0\x9F\x98\x80 ", 11) + std::to_string(number),
          .created_at = core::from_unix_micros(1'700'000'002'000'000 + number), .updated_at = core::from_unix_micros(1'700'000'003'000'000 + number),
          .trace_id = core::TraceId{1, 2, static_cast<std::uint8_t>(number)},
          .hops = "broker@1700000002000000 logger@1700000003000000", .via = core::Via::amqp};
}

class ExportFile : public testing::Test {
 protected:
  ExportFile() {
    std::string name = testing::TempDir() + "flexi-export-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    file_ = folder_ + "/moving.jsonl";
  }
  ~ExportFile() override { fs::remove_all(folder_); }

  /// Two users, then entries from where it stands up to `records`, a checkpoint after every tenth.
  static void fill(ExportWriter& writer, int records) {
    if (!writer.state().begun) {
      for (int id : {1, 2}) ASSERT_TRUE(writer.add(user(id)));
      ASSERT_TRUE(writer.checkpoint(""));
    }
    for (int number = writer.state().cursor.empty() ? 0 : std::stoi(writer.state().cursor); number < records; ++number) {
      ASSERT_TRUE(writer.add(record(number)));
      if ((number + 1) % 10 == 0) ASSERT_TRUE(writer.checkpoint(std::to_string(number + 1)));
    }
  }
  std::unique_ptr<ExportWriter> writer() const {
    auto opened = ExportWriter::open(file_, header_);
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(opened.value());
  }
  void write_whole(int records) const {
    auto whole = writer();
    fill(*whole, records);
    ASSERT_TRUE(whole->finish());
  }
  static std::string text_of(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void put(const std::string& text) const { std::ofstream(file_, std::ios::binary) << text; }
  /// Reads to the end. @return what went wrong; empty: nothing
  std::string read(ExportCounts* counts = nullptr) const {
    auto reader = ExportReader::open(file_);
    if (!reader) return reader.error().message;
    for (;;) {
      auto entry = reader.value()->next();
      if (!entry) return entry.error().message;
      if (!entry.value()) break;
    }
    if (counts) *counts = reader.value()->counts();
    return "";
  }

  const ExportHeader header_{"all", "/data"};
  std::string folder_, file_;
};

TEST_F(ExportFile, EverythingIsReadAsItWas) {
  write_whole(1);
  struct stat info {};
  ASSERT_EQ(::stat(file_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u) << "it holds password hashes";
  EXPECT_FALSE(fs::exists(file_ + ".partial"));

  auto reader = std::move(ExportReader::open(file_)).value();
  EXPECT_EQ(reader->header().what, "all");
  EXPECT_EQ(reader->header().from, "/data");
  auto first = std::get<core::User>(*reader->next().value());
  const auto wanted = user(1);
  const auto all_of = [](const core::User& u) {
    return std::tie(u.id, u.email, u.first_name, u.last_name, u.password_hash, u.active, u.created_at, u.updated_at);
  };
  EXPECT_EQ(all_of(first), all_of(wanted));
  EXPECT_TRUE(std::get<core::User>(*reader->next().value()).active);
  auto log = std::get<core::LogRecord>(*reader->next().value());
  const auto wanted_log = record(0);
  EXPECT_EQ(std::tie(log.id, log.name, log.data, log.created_at, log.updated_at, log.trace_id, log.hops, log.via),
            std::tie(wanted_log.id, wanted_log.name, wanted_log.data, wanted_log.created_at, wanted_log.updated_at, wanted_log.trace_id,
                     wanted_log.hops, wanted_log.via));
  EXPECT_TRUE(log.moved) << "another store's ledger has it";
  EXPECT_FALSE(reader->next().value().has_value());
}

TEST_F(ExportFile, WhatIsCutShortAnywhereIsRefusedByItsLine) {
  write_whole(3);
  const auto whole = text_of(file_);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    put(whole.substr(0, size));
    const auto said = read();
    ASSERT_FALSE(said.empty()) << size << " bytes of " << whole.size();
    const auto line = std::count(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size), '\n') + 1;
    if (line > 1) ASSERT_NE(said.find("line " + std::to_string(line) + ": "), said.npos) << size << ": " << said;
  }
}

TEST_F(ExportFile, WhatWasChangedIsRefused) {
  write_whole(3);
  const auto whole = text_of(file_);
  auto changed = whole;
  changed.replace(changed.find("Zo"), 2, "Xo");
  put(changed);
  EXPECT_NE(read().find("checksum"), std::string::npos);
  put(whole + "{}\n");
  EXPECT_NE(read().find("behind the end"), std::string::npos);
  const auto line = whole.find("{\"type\":\"log\"");
  put(whole.substr(0, line) + whole.substr(whole.find('\n', line) + 1));
  EXPECT_NE(read().find("counts"), std::string::npos);
}

TEST_F(ExportFile, WhatIsNoneIsRefused) {
  EXPECT_EQ(ExportReader::open(file_).error().kind, core::ErrorKind::not_found);
  for (auto* text : {"", "hello\n", "{}\n", "{\"type\":\"end\",\"users\":0,\"logs\":0,\"sha256\":\"\"}\n"}) {
    put(text);
    EXPECT_NE(read().find("is not what `flexiconnect export` writes"), std::string::npos) << text;
  }
  put("{\"type\":\"export\",\"version\":2,\"what\":\"all\",\"from\":\"x\"}\n");
  EXPECT_NE(read().find("a newer program wrote the file"), std::string::npos);
  put("{\"type\":\"export\",\"version\":1,\"what\":\"all\",\"from\":\"x\"}\n{\"type\":\"user\",\"id\":\"one\"}\n");
  EXPECT_NE(read().find("line 2: id"), std::string::npos) << read();
}

TEST_F(ExportFile, ItGoesOnFromAnyByteAtWhichItWasCut) {
  write_whole(25);
  const auto whole = text_of(file_);
  for (std::size_t size = 0; size <= whole.size(); size += 37) {
    fs::remove(file_);
    std::ofstream(file_ + ".partial", std::ios::binary) << whole.substr(0, size);
    auto again = writer();
    const auto kept = again->state().counts.logs;
    if (size + 400 > whole.size()) EXPECT_EQ(kept, 20u) << "only what stands behind the last checkpoint is done again";
    fill(*again, 25);
    ASSERT_TRUE(again->finish());
    ASSERT_EQ(text_of(file_), whole) << size;
  }
}

TEST_F(ExportFile, ADamagedPartIsDoneAgain) {
  {
    auto first = writer();
    fill(*first, 25);
  }
  auto text = text_of(file_ + ".partial");
  text[text.find("id-12")] = '\0';  // as after a power failure
  std::ofstream(file_ + ".partial", std::ios::binary) << text;
  auto again = writer();
  EXPECT_EQ(again->state().counts.logs, 10u);
  fill(*again, 25);
  ASSERT_TRUE(again->finish());
  EXPECT_EQ(read(), "");
}

TEST_F(ExportFile, NothingIsOverwritten) {
  {
    auto first = writer();
    fill(*first, 15);
    EXPECT_EQ(ExportWriter::open(file_, header_).error().kind, core::ErrorKind::conflict) << "two at once";
  }
  for (auto& other : {ExportHeader{"logs", "/data"}, ExportHeader{"all", "/elsewhere"}})
    EXPECT_EQ(ExportWriter::open(file_, other).error().kind, core::ErrorKind::conflict) << "another export's part";
  put("there already");
  EXPECT_EQ(ExportWriter::open(file_, header_).error().kind, core::ErrorKind::conflict);
  EXPECT_EQ(text_of(file_), "there already");
}

TEST_F(ExportFile, AFullDiskIsSaid) {
  auto refused = ExportWriter::open("/no/such/folder/file", header_);
  EXPECT_EQ(refused.error().kind, core::ErrorKind::unavailable);
}

}  // namespace
}  // namespace flexi::apps::transfer
