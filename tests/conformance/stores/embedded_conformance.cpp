// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>
#include <unistd.h>

#include "store_under_test.hpp"

namespace flexi::conformance {
namespace {

/// What happens at the start, so each test opens for itself.
struct StoreStartConformance : StoreTest {
  bool opens_itself() const override { return false; }
  /// Whatever this kind keeps takes something new, and shows it.
  void expect_usable(const std::string& name) {
    if (GetParam().keeps_users) {
      ASSERT_TRUE(wait(store->users().insert({.email = name + "@b"}, {})));
      EXPECT_TRUE(wait(store->users().find_by_email(name + "@b", {})));
    }
    if (GetParam().keeps_logs) {
      ASSERT_TRUE(wait(store->logs().append({core::MessageId::generate(), name, "d", {}, {}}, {})));
      EXPECT_EQ(wait(store->logs().list({.name = name}, {})).value().records.size(), 1u);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(AllStores, StoreStartConformance, testing::ValuesIn(all_stores()), kind_name);

TEST_P(StoreStartConformance, MigratesAgainWithoutHarm) {
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(store->open());
    expect_usable("start" + std::to_string(i));
    if (GetParam().keeps_users) EXPECT_EQ(wait(store->users().list({})).value().size(), static_cast<std::size_t>(i) + 1);
    if (GetParam().keeps_logs) EXPECT_EQ(wait(store->logs().list({}, {})).value().records.size(), static_cast<std::size_t>(i) + 1);
    store->close();
  }
}

TEST_P(StoreStartConformance, TwoProcessesMayMigrateAtOnce) {
  // The children are made while this process has one thread, and start together when the pipe is closed.
  int gate[2];
  ASSERT_EQ(::pipe(gate), 0);
  constexpr int kProcesses = 4;
  pid_t children[kProcesses];
  for (auto& child : children) {
    child = ::fork();
    ASSERT_GE(child, 0);
    if (child != 0) continue;
    ::close(gate[1]);
    char byte;
    (void)!::read(gate[0], &byte, 1);
    auto own = GetParam().make(folder);
    auto opened = own->open();
    if (!opened) std::fprintf(stderr, "%s: %s\n", opened.error().message.c_str(), opened.error().detail.c_str());
    own->close();
    ::_exit(opened ? 0 : 1);
  }
  ::close(gate[0]);
  ::close(gate[1]);
  for (auto child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  ASSERT_TRUE(store->open());
  expect_usable("after");
}

TEST_P(StoreStartConformance, ASpoiltStoreIsReportedAtTheStart) {
  store->spoil();
  auto opened = store->open();
  ASSERT_FALSE(opened);
  EXPECT_FALSE(opened.error().message.empty());
}

}  // namespace
}  // namespace flexi::conformance
