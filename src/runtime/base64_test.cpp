// SPDX-License-Identifier: Apache-2.0
#include "runtime/base64.hpp"

#include <gtest/gtest.h>

namespace flexi::runtime {
namespace {

// Source: RFC 4648 section 10
TEST(Base64, IsTheStandards) {
  const std::pair<std::string_view, std::string_view> vectors[] = {{"", ""},         {"f", "Zg=="},         {"fo", "Zm8="},        {"foo", "Zm9v"},
                                                                   {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
  for (auto [bytes, text] : vectors) {
    EXPECT_EQ(base64_encode(bytes), text);
    EXPECT_EQ(base64_decode(text), bytes);
  }
}

TEST(Base64, EveryByteComesBack) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  for (std::size_t n = 0; n <= bytes.size(); ++n) EXPECT_EQ(base64_decode(base64_encode(bytes.substr(0, n))), bytes.substr(0, n));
}

TEST(Base64, WhatIsNotTheOneFormOfItsBytesIsRefused) {
  for (auto wrong : {"Zg", "Zg=", "Zg===", "====", "=", "Zh==", "Zm9=", "Z g=", "Zm9v\n", "Zm-_", "Zg==Zg==", "=Zg="}) EXPECT_FALSE(base64_decode(wrong)) << wrong;
}

}  // namespace
}  // namespace flexi::runtime
