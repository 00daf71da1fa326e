// SPDX-License-Identifier: Apache-2.0
#include "runtime/page_budget.hpp"

#include <gtest/gtest.h>

#include "runtime/json.hpp"

namespace flexi::runtime {
namespace {

std::size_t written(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out.size();
}

TEST(JsonStringBytes, AreThoseThatAreWritten) {
  std::string every;
  for (int c = 0; c < 0x80; ++c) every += static_cast<char>(c);
  for (std::string text : {std::string(), std::string("plain"), std::string("a\"b\\c\nd\re\tf"), every, std::string("é€😀李")})
    EXPECT_EQ(json_string_bytes(text), written(text)) << text;
}

TEST(JsonStringBytes, OfWhatIsNoUtf8AreEnough) {
  for (std::string bad : {"\x80", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "é\xff\xff\xff"}) EXPECT_GE(json_string_bytes(bad), written(bad));
}

TEST(PageBudgetTest, APageEndsByItsBytesAndItsFirstItemAlwaysFits) {
  const std::string half(PageBudget::kMaxBytes / 2 - 1000, 'x'), whole(PageBudget::kMaxBytes, 'x'), escapes(PageBudget::kMaxBytes / 6, '\x01');
  PageBudget page;
  EXPECT_TRUE(page.take({half, "more"}));
  EXPECT_TRUE(page.take({half}));
  EXPECT_FALSE(page.take({std::string_view(half).substr(0, 2000)}));
  EXPECT_TRUE(PageBudget().take({whole, whole}));
  PageBudget full;
  EXPECT_TRUE(full.take({escapes}));
  EXPECT_FALSE(full.take({}));
}

}  // namespace
}  // namespace flexi::runtime
