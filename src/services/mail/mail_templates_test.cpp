// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mail_templates.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "services/mail/mail_service.hpp"
#include "services/mail/template_data.hpp"

namespace flexi::services::mail {
namespace {

/// The mail service's only template where no folder is set, or one that `mail` names.
std::string html_of(const MailTemplates& templates, const core::Mail& mail) { return templates.render(mail).value().html; }
std::string plain_of(const MailTemplates& templates, const core::Mail& mail) { return templates.render(mail).value().plain; }
core::Mail with_message(std::string message) { return {"", "", "", std::move(message)}; }
core::Mail with_data(std::string name, std::string data) { return {.template_name = std::move(name), .data = std::move(data)}; }

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
  const auto html = html_of(templates, with_message(message));
  EXPECT_EQ(html.find("<script>"), std::string::npos);
  EXPECT_NE(html.find("Hi &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;you&quot;\nsecond line\n{{message}}</p>"), std::string::npos) << html;
  EXPECT_NE(html.find("white-space:pre-line"), std::string::npos) << "inlined";
  EXPECT_NE(html.find("@media"), std::string::npos);
  EXPECT_EQ(plain_of(templates, with_message(message)), message + "\n");
}

TEST_F(TemplateFolder, AUsersPairIsUsedAndEscapedByContext) {
  write("mail.html", "<style>p{color:red}</style><p>{{message}}</p><a href=\"{{message}}\">x</a>");
  write("mail.txt", "Dear all,\n{{message}}\n-- \nus\n");
  auto templates = MailTemplates::load(folder_).value();
  const auto html = html_of(templates, with_message("javascript:alert(1)<b>"));
  EXPECT_EQ(html.find("<b>"), std::string::npos);
  EXPECT_EQ(html.find("href=\"javascript:"), std::string::npos) << html;
  EXPECT_NE(html.find("<p style=\"color:red\">"), std::string::npos) << html;
  EXPECT_EQ(plain_of(templates, with_message("a<b")), "Dear all,\na<b\n-- \nus\n");
}

TEST_F(TemplateFolder, EscapingCanNotBeSwitchedOff) {
  write("mail.txt", "{{message}}");
  write("mail.html", "{{%AUTOESCAPE context=\"JAVASCRIPT\"}}<p>{{message}}</p>");
  EXPECT_NE(problem().find("%AUTOESCAPE"), std::string::npos);
}

TEST_F(TemplateFolder, WhatIsWrongIsNamed) {
  EXPECT_NE(problem().find("holds no templates"), std::string::npos);
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

TEST_F(TemplateFolder, TemplatesAreChosenByName) {
  write("welcome.html", "<style>p{color:red}</style><p title=\"{{name}}\">{{name}}</p><a href=\"{{url}}\">x</a>"
                        "{{#items}}<li>{{title}}: {{price}}{{#tags}}[{{item}}]{{/tags}}</li>{{/items}}{{#vip}}<b>vip</b>{{/vip}}{{#from}}{{city}}{{/from}}");
  write("welcome.txt", "Hi {{name}}{{#note}} ({{note}}){{/note}}! {{message}}");
  auto templates = MailTemplates::load(folder_).value();
  EXPECT_EQ(templates.names(), (std::vector<std::string>{"mail", "welcome"})) << "the default pair is always there";
  const auto mail = with_data("welcome", R"x({"name":"Zoë <script>\"x\"","url":"javascript:alert(1)","vip":true,"hidden":false,"none":null,"from":{"city":"Köln"},)x"
                                         R"("items":[{"title":"A&B","price":12.5,"tags":["x","y"]},{"title":"C","price":-3}],"note":""})");
  const auto html = html_of(templates, mail);
  EXPECT_EQ(html.find("<script"), std::string::npos) << html;
  EXPECT_EQ(html.find("href=\"javascript"), std::string::npos) << html;
  EXPECT_NE(html.find("color:red"), std::string::npos) << html;
  EXPECT_NE(html.find("<li>A&amp;B: 12.5[x][y]</li><li>C: -3</li><b>vip</b>Köln"), std::string::npos) << html;
  EXPECT_EQ(plain_of(templates, mail), "Hi Zoë <script>\"x\"! ");
  EXPECT_EQ(plain_of(templates, with_data("welcome", R"({"name":"Zoë","note":"new","message":"from the data"})")), "Hi Zoë (new)! from the data");
  EXPECT_NE(html_of(templates, with_message("to the default")).find("to the default"), std::string::npos);
}

TEST_F(TemplateFolder, AnUnknownNameListsThoseThatThereAre) {
  write("a.html", "a"), write("a.txt", "a"), write("b.html", "b"), write("b.txt", "b");
  write("secret.tmpl", "no template");
  auto templates = MailTemplates::load(folder_).value();
  for (auto name : {"c", "../a", "secret", "a.html", "/etc/passwd", "A"}) {
    const auto refused = templates.render(with_data(name, ""));
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().kind, core::ErrorKind::invalid_argument);
    EXPECT_EQ(refused.error().message, "there is no such template here; there are: a, b, mail");
  }
}

TEST_F(TemplateFolder, HalfAPairAndAStrangeNameAreReportedAtTheStart) {
  write("welcome.html", "x");
  EXPECT_NE(problem().find("/welcome.txt can't be read"), std::string::npos);
  write("welcome.txt", "x");
  write("two words.txt", "x");
  EXPECT_NE(problem().find("two words.txt can't be a template's name"), std::string::npos);
}

TEST_F(TemplateFolder, DataThatATemplateCanNotShowIsNamed) {
  write("t.html", "x{{#a}}{{#b}}{{#c}}{{big}}{{/c}}{{/b}}{{/a}}"), write("t.txt", "x");
  auto templates = MailTemplates::load(folder_).value();
  const auto wrong = [&](std::string data) {
    const auto refused = templates.render(with_data("t", data));
    EXPECT_FALSE(refused) << data.substr(0, 100);
    EXPECT_EQ(bool(check_template_data(data)), data.find("big") != std::string::npos);
    return refused ? std::string() : refused.error().message;
  };
  EXPECT_EQ(wrong("[1]"), "data must be a JSON object with the template's values");
  EXPECT_EQ(wrong(R"({"a b":1})"), "data: 'a b' is no name of a template's variable: use letters, digits and _");
  EXPECT_EQ(wrong(R"({"a":[[1]]})"), "data: a must not hold arrays: use objects");
  EXPECT_EQ(wrong(R"({"a":{"a":{"a":{"a":{"a":1}}}}})"), "data must be at most 4 objects deep");
  EXPECT_EQ(wrong(R"({"a":"\u0000"})"), "data: a must not hold a NUL character");
  std::string many = "1";
  for (std::size_t i = 0; i < kMaxTemplateValues; ++i) many += ",1";
  EXPECT_EQ(wrong("{\"a\":[" + many + "]}"), "data must hold at most 1000 values");
  // 300 in 300 in 300 sections of 1 KiB: bounded, not tried.
  std::string some = "{}";
  for (int i = 1; i < 300; ++i) some += ",{}";
  EXPECT_NE(wrong("{\"a\":[" + some + "],\"b\":[" + some + "],\"c\":[1],\"big\":\"" + std::string(1024, 'x') + "\"}").find("bytes once its template is filled"), std::string::npos);
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
