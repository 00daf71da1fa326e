// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mail_templates.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "services/mail/mail_service.hpp"

namespace flexi::services::mail {
namespace {

class TemplateFolder : public testing::Test {
 protected:
  TemplateFolder() {
    std::string pattern = testing::TempDir() + "/templatesXXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }
  ~TemplateFolder() override { std::filesystem::remove_all(folder_); }
  void write(const char* name, std::string_view text) { std::ofstream(folder_ + "/" + name, std::ios::binary) << text; }
  std::string problem() {
    auto templates = MailTemplates::load(folder_);
    EXPECT_FALSE(templates);
    return templates ? "" : templates.error().message;
  }
  std::string folder_;
};

TEST(MailTemplates, TheDefaultsEscapeAndKeepLineBreaks) {
  auto templates = MailTemplates::load("").value();
  const std::string message = "Hi <script>alert('x')</script> & \"you\"\nsecond line\n{{message}}";
  const auto html = templates.render_html(message).value();
  EXPECT_EQ(html.find("<script>"), std::string::npos);
  EXPECT_NE(html.find("Hi &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;you&quot;\nsecond line\n{{message}}</p>"), std::string::npos) << html;
  EXPECT_NE(html.find("white-space:pre-line"), std::string::npos) << "inlined";
  EXPECT_NE(html.find("@media"), std::string::npos);
  EXPECT_EQ(templates.render_plain(message).value(), message + "\n");
}

TEST_F(TemplateFolder, AUsersPairIsUsedAndEscapedByContext) {
  write("mail.html", "<style>p{color:red}</style><p>{{message}}</p><a href=\"{{message}}\">x</a>");
  write("mail.txt", "Dear all,\n{{message}}\n-- \nus\n");
  auto templates = MailTemplates::load(folder_).value();
  const auto html = templates.render_html("javascript:alert(1)<b>").value();
  EXPECT_EQ(html.find("<b>"), std::string::npos);
  EXPECT_EQ(html.find("href=\"javascript:"), std::string::npos) << html;
  EXPECT_NE(html.find("<p style=\"color:red\">"), std::string::npos) << html;
  EXPECT_EQ(templates.render_plain("a<b").value(), "Dear all,\na<b\n-- \nus\n");
}

TEST_F(TemplateFolder, EscapingCanNotBeSwitchedOff) {
  write("mail.txt", "{{message}}");
  write("mail.html", "{{%AUTOESCAPE context=\"JAVASCRIPT\"}}<p>{{message}}</p>");
  EXPECT_NE(problem().find("%AUTOESCAPE"), std::string::npos);
}

TEST_F(TemplateFolder, WhatIsWrongIsNamed) {
  EXPECT_NE(problem().find("/mail.html can't be read"), std::string::npos);
  write("mail.html", "<p>{{message}}</p>");
  EXPECT_NE(problem().find("/mail.txt can't be read"), std::string::npos);
  write("mail.txt", "{{message");
  EXPECT_NE(problem().find("mail.txt is not a valid template"), std::string::npos);
  write("mail.txt", "{{message}}");
  write("mail.html", "<p>{{#X}}{{message}}</p>");
  EXPECT_NE(problem().find("mail.html is not a valid template"), std::string::npos);
  write("mail.html", "<p>hello</p>");
  EXPECT_NE(problem().find("mail.html does not show {{message}}"), std::string::npos);
  write("mail.html", "<p>" + std::string(300'000, 'x'));
  EXPECT_NE(problem().find("mail.html is over"), std::string::npos);
}

TEST_F(TemplateFolder, OptionsReportIt) {
  MailOptions options;
  EXPECT_TRUE(options.validate().empty());
  options.templates_dir = folder_ + "/missing";
  options.from_address = "nobody";
  options.from_name = "a\r\nb";
  options.domain = "exa mple";
  std::string paths;
  for (auto& problem : options.validate()) paths += problem.path + " ";
  EXPECT_EQ(paths, "from_address from_name domain templates_dir ");
}

}  // namespace
}  // namespace flexi::services::mail
