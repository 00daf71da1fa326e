// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/password_policy.hpp"

#include <gtest/gtest.h>

#include <unistd.h>
#include <filesystem>
#include <fstream>

namespace flexi::services::authentication {
namespace {

std::string refusal(const PasswordPolicy& policy, std::string_view password, std::initializer_list<std::string_view> owner = {}) {
  auto checked = policy.check(password, owner);
  return checked ? "" : checked.error().message;
}

TEST(PasswordPolicy, CountsCharactersNotBytes) {
  const PasswordPolicy policy(8);
  EXPECT_NE(refusal(policy, "korund7"), "");
  EXPECT_EQ(refusal(policy, "korund7x"), "");
  EXPECT_NE(refusal(policy, "üüäößéè"), "") << "fourteen bytes, seven characters";
  EXPECT_EQ(refusal(policy, "üüäößéèç"), "");
  EXPECT_NE(refusal(PasswordPolicy(15), "korund7xkorund"), "");
  EXPECT_NE(refusal(policy, std::string(73, 'x')).find("72"), std::string::npos);
  EXPECT_NE(refusal(policy, std::string_view("korund7x\0x", 10)), "");
}

TEST(PasswordPolicy, HasNoRuleOfComposition) {
  const PasswordPolicy policy(8);
  for (auto good : {"correct horse battery staple", "analytical engine", "verysecret", "ziemlichlang", "                x", "93847561029", "ВеснаПришла", "kein Passwort!"})
    EXPECT_EQ(refusal(policy, good), "") << good;
}

TEST(PasswordPolicy, KnowsWhatIsTriedFirst) {
  const PasswordPolicy policy(8);
  for (auto common : {"password", "Password1", "P@ssw0rd", "PASSWORD123!", "passw0rd2024", "12345678", "123456789", "1234567890", "87654321", "11111111", "00000000", "abcd1234",
                      "abcdefgh", "qwertyuiop", "qwerty123", "Qwertz12345", "asdfghjkl", "zxcvbnm1", "1q2w3e4r", "1q2w3e4r5t", "1qaz2wsx", "iloveyou", "1loveyou!", "letmein1",
                      "welcome1", "Welcome2024!", "admin123", "Administrator1", "changeme", "ch@ngeme", "monkey12", "dragon2000", "football1", "superman", "trustno1",
                      "abcabcabc", "aaaaaaaaaa", "summer2025", "sunshine99", "princess!", "secret123", "starwars77"})
    EXPECT_NE(refusal(policy, common), "") << common;
}

TEST(PasswordPolicy, IsNotItsOwnersName) {
  const PasswordPolicy policy(8);
  const std::initializer_list<std::string_view> owner{"ada.lovelace@example.com", "Wilhelmina", "Featherstone"};
  for (auto own : {"ada.lovelace@example.com", "Ada.Lovelace", "WILHELMINA", "featherstone"})
    EXPECT_EQ(refusal(policy, own, owner), "password must not be its user's e-mail address or name") << own;
  EXPECT_EQ(refusal(policy, "ada.lovelace.the.first", owner), "");
}

TEST(PasswordPolicy, TakesAListOfOnesOwn) {
  const auto file = std::filesystem::temp_directory_path() / ("flexi-common-" + std::to_string(::getpid()));
  std::ofstream(file) << "Korund7x\r\nzweiundvierzig\n\n";
  PasswordPolicy policy(8);
  EXPECT_EQ(refusal(policy, "korund7x"), "");
  ASSERT_TRUE(policy.add_common(file.string()));
  EXPECT_NE(refusal(policy, "korund7X"), "");
  EXPECT_NE(refusal(policy, "Zweiundvierzig"), "");
  EXPECT_EQ(refusal(policy, "dreiundvierzig"), "");
  std::filesystem::remove(file);
  EXPECT_FALSE(policy.add_common(file.string()));
}

TEST(PasswordPolicy, NeverRepeatsAPassword) {
  const PasswordPolicy policy(12);
  for (auto bad : {"korund7", "Passwort1234"}) EXPECT_EQ(refusal(policy, bad).find(bad), std::string::npos);
}

}  // namespace
}  // namespace flexi::services::authentication
