// SPDX-License-Identifier: Apache-2.0
// kill -9 while it spools, and while it drains.
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <fstream>

#include "transports/spool/spool_test_support.hpp"

extern char** environ;

namespace flexi::transports::spool::testing {
namespace {

class SpoolCrashTest : public ::testing::Test {
 protected:
  SpoolCrashTest() {
    std::string name = ::testing::TempDir() + "flexi-spool-crash-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~SpoolCrashTest() override { fs::remove_all(folder_); }
  pid_t start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {FLEXI_CRASH_CHILD, folder_});
    std::vector<char*> argv;
    for (auto& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    pid_t pid = 0;
    EXPECT_EQ(::posix_spawn(&pid, FLEXI_CRASH_CHILD, nullptr, nullptr, argv.data(), environ), 0);
    return pid;
  }
  std::vector<std::string> lines(const char* name) const {
    std::ifstream file(folder_ + name);
    std::vector<std::string> all;
    for (std::string line; std::getline(file, line);)
      if (!file.eof()) all.push_back(line);
    return all;
  }
  void kill_when(pid_t pid, const char* file, std::size_t count) {
    while (lines(file).size() < count) {
      int status;
      ASSERT_EQ(::waitpid(pid, &status, WNOHANG), 0) << "the child ended by itself";
    }
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  std::string folder_;
};

TEST_F(SpoolCrashTest, KilledWhileItSpoolsAndWhileItDrainsItLosesNothingAndKeepsTheOrder) {
  for (int i = 0; i < 3; ++i) {
    const auto before = lines("/accepted").size();
    kill_when(start({"load", std::to_string(i * 1'000'000)}), "/accepted", before + 500);
  }
  for (int i = 0; i < 4; ++i) {
    const auto before = lines("/delivered").size();
    kill_when(start({"drain", "130"}), "/delivered", before + 150);
  }
  const auto last = start({"drain", "1000000000"});
  int status = -1;
  ::waitpid(last, &status, 0);
  EXPECT_EQ(status, 0);
  std::vector<int> first_arrivals;
  std::set<std::string> known;
  const auto delivered = lines("/delivered");
  for (auto& id : delivered)
    if (known.insert(id).second) first_arrivals.push_back(std::atoi(id.c_str() + 1));
  for (auto& id : lines("/accepted")) ASSERT_TRUE(known.contains(id)) << id << " was accepted and is lost";
  EXPECT_TRUE(std::is_sorted(first_arrivals.begin(), first_arrivals.end()));
  EXPECT_LT(delivered.size(), known.size() + 5 * 100) << "no more is sent twice than one batch a death";
}

}  // namespace
}  // namespace flexi::transports::spool::testing
