// SPDX-License-Identifier: Apache-2.0
#include "apps/data_directory.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "runtime/sqlite/database.hpp"

namespace flexi::apps {
namespace {

namespace fs = std::filesystem;

class DataDirectoryTest : public testing::Test {
 protected:
  DataDirectoryTest() {
    std::string name = testing::TempDir() + "flexi-data-XXXXXX";
    base_ = ::mkdtemp(name.data());
  }
  ~DataDirectoryTest() override { fs::remove_all(base_); }

  std::string base_;
};

/// A database with one component at `version`.
std::unique_ptr<runtime::sqlite::Database> make_database(const std::string& file, runtime::Metrics& metrics) {
  static constexpr runtime::sqlite::Migration kSteps[] = {{1, "CREATE TABLE t(v TEXT); INSERT INTO t VALUES('kept')"}};
  runtime::sqlite::DatabaseOptions options;
  options.path = file;
  auto database = std::move(runtime::sqlite::Database::open(options, runtime::LogSink::none(), metrics)).value();
  EXPECT_TRUE(database->migrate("test", kSteps));
  return database;
}

std::string kept(const std::string& file) {
  auto connection = std::move(runtime::sqlite::Connection::open(file, runtime::sqlite::Connection::Mode::read_only)).value();
  auto row = connection->use("SELECT v FROM t");
  return row.step().value() ? row.text(0) : "";
}

TEST_F(DataDirectoryTest, OneServerAFolderAndNobodyElseReadsIt) {
  {
    auto first = DataDirectory::open(base_ + "/data");
    ASSERT_TRUE(first);
    struct stat info {};
    ASSERT_EQ(::stat((base_ + "/data").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0700u);
    auto second = DataDirectory::open(base_ + "/data");
    EXPECT_EQ(second.error().kind, core::ErrorKind::conflict);
  }
  EXPECT_TRUE(DataDirectory::open(base_ + "/data")) << "the lock must go with its holder";
}

TEST_F(DataDirectoryTest, AFolderThatCantBeMadeSaysSo) {
  std::ofstream(base_ + "/file") << "not a folder";
  auto refused = DataDirectory::open(base_ + "/file/data");
  EXPECT_EQ(refused.error().kind, core::ErrorKind::unavailable);
  EXPECT_NE(refused.error().message.find("FLEXI_DATA_DIR"), std::string::npos);
}

TEST_F(DataDirectoryTest, ABackupOfARunningFolderIsRestoredElsewhere) {
  runtime::Metrics metrics;
  auto running = DataDirectory::open(base_ + "/data");
  ASSERT_TRUE(running);
  auto database = make_database(running.value().database_file(), metrics);
  auto saved = backup(base_ + "/data", base_ + "/saved.db");
  ASSERT_TRUE(saved) << saved.error().message << saved.error().detail;
  EXPECT_EQ(backup(base_ + "/data", base_ + "/saved.db").error().kind, core::ErrorKind::conflict) << "it must not overwrite";
  ASSERT_TRUE(restore(base_ + "/new", base_ + "/saved.db"));
  EXPECT_EQ(kept(base_ + "/new/flexiconnect.db"), "kept");
  EXPECT_EQ(restore(base_ + "/new", base_ + "/saved.db").error().kind, core::ErrorKind::conflict) << "it must not replace data";
  EXPECT_EQ(restore(base_ + "/data", base_ + "/saved.db").error().kind, core::ErrorKind::conflict) << "a server runs on it";
}

TEST_F(DataDirectoryTest, HowFarItIsIsTold) {
  runtime::Metrics metrics;
  auto running = DataDirectory::open(base_ + "/data");
  auto database = make_database(running.value().database_file(), metrics);
  std::vector<std::optional<int>> told;
  const auto note = [&told](std::string_view, std::optional<int> percent) { told.push_back(percent); };
  const auto rises_to_the_end = [&told] {
    int last = 0;
    for (auto& percent : told)
      if (percent) {
        EXPECT_GE(*percent, last);
        last = *percent;
      }
    return last == 100;
  };
  ASSERT_TRUE(backup(base_ + "/data", base_ + "/saved.db", note));
  EXPECT_TRUE(rises_to_the_end());
  told.clear();
  ASSERT_TRUE(restore(base_ + "/new", base_ + "/saved.db", note));
  ASSERT_FALSE(told.empty());
  EXPECT_FALSE(told.front()) << "how long the check takes nobody knows";
  EXPECT_TRUE(rises_to_the_end());
}

TEST_F(DataDirectoryTest, WhatIsNoBackupIsRefused) {
  std::ofstream(base_ + "/garbage") << std::string(5000, 'x');
  EXPECT_EQ(restore(base_ + "/new", base_ + "/garbage").error().kind, core::ErrorKind::invalid_argument);
  EXPECT_EQ(restore(base_ + "/new", base_ + "/missing").error().kind, core::ErrorKind::invalid_argument);
  EXPECT_EQ(backup(base_ + "/nothing", base_ + "/saved.db").error().kind, core::ErrorKind::not_found);
}

TEST_F(DataDirectoryTest, ADamagedBackupIsRefused) {
  runtime::Metrics metrics;
  {
    auto data = DataDirectory::open(base_ + "/data");
    auto database = make_database(data.value().database_file(), metrics);
    ASSERT_TRUE(backup(base_ + "/data", base_ + "/saved.db"));
  }
  // All pages behind the first are overwritten: the header still looks right.
  std::fstream file(base_ + "/saved.db", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(4096);
  file << std::string(fs::file_size(base_ + "/saved.db") - 4096, '\xee');
  file.close();
  EXPECT_EQ(restore(base_ + "/new", base_ + "/saved.db").error().kind, core::ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace flexi::apps
