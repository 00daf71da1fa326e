// SPDX-License-Identifier: Apache-2.0
#include "services/mail/address.hpp"

#include <gtest/gtest.h>

namespace flexi::services::mail {
namespace {

TEST(Address, ReadsItsForms) {
  struct Case { const char *text, *name, *spec; };
  for (const auto& c : {Case{"a@example.com", "", "a@example.com"}, Case{" <a@example.com> ", "", "a@example.com"},
                        Case{"Ada Lovelace <ada@example.com>", "Ada Lovelace", "ada@example.com"},
                        Case{"\"Doe, \\\"J\\\"\" <j.d+x@localhost>", "Doe, \"J\"", "j.d+x@localhost"},
                        Case{"Jürgen <j@example.com>", "Jürgen", "j@example.com"}}) {
    auto address = parse_address("to", c.text);
    ASSERT_TRUE(address) << c.text;
    EXPECT_EQ(address.value().name, c.name);
    EXPECT_EQ(address.value().addr_spec, c.spec);
  }
}

TEST(Address, RefusesWhatIsNoneAndNamesTheField) {
  const std::string long_local(65, 'a'), long_domain = std::string(250, 'a') + ".com";
  for (const std::string& text :
       {std::string(), std::string("plain"), std::string("@example.com"), std::string("a@"), std::string("a@b@c"), std::string("a b@example.com"),
        std::string(".a@example.com"), std::string("a..b@example.com"), std::string("a@-x.com"), std::string("a@x..com"), std::string("<a@example.com"),
        std::string("\"open <a@example.com>"), std::string("x <<a@example.com>>"), std::string("\xc2\x85@example.com"), std::string("a\xe2\x80\xa8@example.com"), std::string("a@ex\xe2\x80\xa8mple.com"),
        std::string("a@xn--a.com.ü."), std::string("a@example.com>"), std::string("a@[127.0.0.1]"), std::string("\"a b\"@example.com"), long_local + "@example.com", "a@" + long_domain}) {
    auto address = parse_address("from", text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().kind, core::ErrorKind::invalid_argument);
    EXPECT_EQ(address.error().message.rfind("from", 0), 0u) << address.error().message;
  }
}

// Source: RFC 6531, RFC 5891
TEST(Address, IsInternationalised) {
  const auto domain = parse_address("to", "Bücherei <a@Bücher.example>").value();
  EXPECT_EQ(domain.addr_spec, "a@xn--bcher-kva.example");
  EXPECT_TRUE(domain.is_ascii()) << "any server takes it";
  EXPECT_EQ(parse_address("to", "x@straße.de").value().addr_spec, "x@xn--strae-oqa.de");
  const auto local = parse_address("to", "用户@例子.广告").value();
  EXPECT_EQ(local.addr_spec, "用户@xn--fsqu00a.xn--4rr70v");
  EXPECT_FALSE(local.is_ascii());
  EXPECT_FALSE(parse_address("to", "ü@" + std::string(40, 'a') + "." + std::string(70, 'b')));
}

TEST(Address, RefusesHeaderInjection) {
  for (std::string text : {"a@example.com\r\nBcc: x@example.com", "a\n <a@example.com>", "\"x\r\" <a@example.com>"}) {
    auto address = parse_address("to", text);
    ASSERT_FALSE(address);
    EXPECT_EQ(address.error().message, "to must not contain line breaks or NUL");
  }
  EXPECT_FALSE(parse_address("to", std::string_view("a\0@example.com", 14)));
  EXPECT_FALSE(parse_address("to", "\xff <a@example.com>"));
}

TEST(Address, ReadsLists) {
  auto list = parse_address_list("to", "a@example.com, \"Doe, J\" <b@example.com>");
  ASSERT_TRUE(list);
  ASSERT_EQ(list.value().size(), 2u);
  EXPECT_EQ(list.value()[1].name, "Doe, J");
  EXPECT_FALSE(parse_address_list("to", "a@example.com,"));
  EXPECT_FALSE(parse_address_list("to", ""));
  EXPECT_FALSE(parse_address_list("to", "\"\\"));
  std::string many = "a@b";
  for (std::size_t i = 1; i < kMaxRecipients; ++i) many += ",a@b";
  EXPECT_TRUE(parse_address_list("to", many));
  EXPECT_FALSE(parse_address_list("to", many + ",a@b"));
}

}  // namespace
}  // namespace flexi::services::mail
