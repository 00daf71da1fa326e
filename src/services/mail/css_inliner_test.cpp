// SPDX-License-Identifier: Apache-2.0
#include "services/mail/css_inliner.hpp"

#include <gtest/gtest.h>

#include <ctime>

namespace flexi::services::mail {
namespace {

std::string repeat(std::string_view text, std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out += text;
  return out;
}

std::string inlined(std::string_view html) {
  auto result = inline_css(html);
  EXPECT_TRUE(result) << result.error().message;
  return result ? result.value() : std::string();
}

struct Case {
  const char *name, *css, *html, *expected;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class CssInliner : public testing::TestWithParam<Case> {};

TEST_P(CssInliner, InlinesBody) {
  const auto& c = GetParam();
  EXPECT_EQ(inlined(std::string("<style>") + c.css + "</style>" + c.html), c.expected);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, CssInliner,
    testing::Values(
        Case{"Type", "p{color:red}", "<p>x</p><b>y</b>", "<p style=\"color:red\">x</p><b>y</b>"},
        Case{"CaseOfNames", "P{COLOR:Red}", "<p>x</p>", "<p style=\"color:Red\">x</p>"},
        Case{"Universal", "*{margin:0}", "<p><i>x</i></p>", "<p style=\"margin:0\"><i style=\"margin:0\">x</i></p>"},
        Case{"Class", ".a{color:red}", "<p class='b a'>x</p><p class=ab>y</p>", "<p style=\"color:red\" class='b a'>x</p><p class=ab>y</p>"},
        Case{"Id", "#a{color:red}", "<p id=a>x</p>", "<p style=\"color:red\" id=a>x</p>"},
        Case{"AttributeExists", "[lang]{color:red}", "<p lang>x</p>", "<p style=\"color:red\" lang>x</p>"},
        Case{"AttributeEquals", "[a=\"x y\"]{c:d}", "<p a='x y'></p><p a=x></p>", "<p style=\"c:d\" a='x y'></p><p a=x></p>"},
        Case{"AttributeParts", "[a^=x]{c:1}[a$=z]{d:1}[a*=y]{e:1}[a|=x]{f:1}", "<p a=xyz></p><p a=x-y></p>",
             "<p style=\"c:1;d:1;e:1\" a=xyz></p><p style=\"c:1;e:1;f:1\" a=x-y></p>"},
        Case{"Descendant", "div b{c:d}", "<div><p><b>x</b></p></div><b>y</b>", "<div><p><b style=\"c:d\">x</b></p></div><b>y</b>"},
        Case{"Child", "div>b{c:d}", "<div><b>x</b><p><b>y</b></p></div>", "<div><b style=\"c:d\">x</b><p><b>y</b></p></div>"},
        Case{"NextSibling", "b + i{c:d}", "<p><b></b><i></i><i></i></p>", "<p><b></b><i style=\"c:d\"></i><i></i></p>"},
        Case{"LaterSibling", "b~i{c:d}", "<p><i></i><b></b>t<i></i><i></i></p>", "<p><i></i><b></b>t<i style=\"c:d\"></i><i style=\"c:d\"></i></p>"},
        Case{"FirstAndLast", "i:first-child{a:b}i:last-child{c:d}", "<p><i></i><b></b><i></i></p>", "<p><i style=\"a:b\"></i><b></b><i style=\"c:d\"></i></p>"},
        Case{"Backtracks", "div div > p b{c:d}", "<div><div><p><div></div><u><b>x</b></u></p></div></div>",
             "<div><div><p><div></div><u><b>x</b></u></p></div></div>"},
        Case{"Specificity", "#a{c:1}.b{c:2}p{c:3}", "<p id=a class=b></p>", "<p style=\"c:1\" id=a class=b></p>"},
        Case{"OrderBreaksTies", ".a{c:1}.b{c:2}", "<p class='b a'></p>", "<p style=\"c:2\" class='b a'></p>"},
        Case{"Important", "p{c:1!important}#a{c:2}", "<p id=a></p>", "<p style=\"c:1 !important\" id=a></p>"},
        Case{"StyleWins", "p{color:red;margin:0}", "<p style='color:blue'>x</p>", "<p style=\"margin:0;color:blue\">x</p>"},
        Case{"ImportantBeatsStyle", "p{color:red !important}", "<p style='color:blue'>x</p>", "<p style=\"color:red !important\">x</p>"},
        Case{"StyleWithoutValue", "p{a:b}", "<p style>x</p>", "<p style=\"a:b\">x</p>"},
        Case{"Quotes", "p{font:\"A&B\"}", "<p>x</p>", "<p style=\"font:&quot;A&amp;B&quot;\">x</p>"},
        Case{"SemicolonInUrl", "p{b:url(data:x;y)}", "<p>x</p>", "<p style=\"b:url(data:x;y)\">x</p>"},
        Case{"List", "p, b ,i{c:d}", "<b></b>", "<b style=\"c:d\"></b>"},
        Case{"Comment", "/* p{x:y} */p/**/{c:d}", "<p></p>", "<p style=\"c:d\"></p>"},
        Case{"SelfClosing", "br{c:d}", "<br/><br />", "<br style=\"c:d\"/><br style=\"c:d\" />"},
        Case{"UnquotedSlash", "a{c:d}", "<a href=foo/>x</a>", "<a style=\"c:d\" href=foo/>x</a>"},
        Case{"LaterRuleOfSameTag", "p{a:1;b:2}p{a:3}", "<p></p>", "<p style=\"b:2;a:3\"></p>"},
        Case{"MediaStays", "@media (x){p{c:d}}p{a:b}", "<p></p>", "<style>\n@media (x){p{c:d}}\n</style><p style=\"a:b\"></p>"},
        Case{"HoverStays", "a:hover{c:d}a{c:e}", "<a></a>", "<style>\na:hover{c:d !important}\n</style><a style=\"c:e\"></a>"},
        Case{"MixedList", "a,a:hover{c:d}", "<a></a>", "<style>\na:hover{c:d !important}\n</style><a style=\"c:d\"></a>"},
        Case{"ImportStays", "@import url(x;y);p{a:b}", "<p></p>", "<style>\n@import url(x;y);\n</style><p style=\"a:b\"></p>"},
        Case{"NotClosed", "p{a:b", "<p></p>", "<p style=\"a:b\"></p>"},
        Case{"BadDeclarationsGo", "p{a;:b;c:;d:e;f g:h}", "<p></p>", "<p style=\"d:e\"></p>"},
        Case{"UnknownTag", "x-y{c:d}", "<x-y>z</x-y>", "<x-y style=\"c:d\">z</x-y>"},
        Case{"Placeholder", "a{c:d}", "<a href=\"{{X}}\">&amp;&nbsp;</a>", "<a style=\"c:d\" href=\"{{X}}\">&amp;&nbsp;</a>"},
        Case{"MisnestedOnce", "b{c:d}", "<p><b>x<p>y</b>z", "<p><b style=\"c:d\">x<p>y</b>z"}),
    [](auto& info) { return info.param.name; });

TEST(CssInlinerText, KeepsEverythingElse) {
  const std::string html = "<!-- c --><!DOCTYPE html>\r\n<HTML><head><title>a&lt;b</title></head><body>\xc3\xa9 <b>x</b></body></html>\n";
  EXPECT_EQ(inlined(html), html);
}

TEST(CssInlinerText, SeveralStyleElementsAreOneSheet) {
  EXPECT_EQ(inlined("<style>p{a:1}</style><p></p><style>p{a:2}@page{x:y}</style>"), "<style>\n@page{x:y}\n</style><p style=\"a:2\"></p>");
}

TEST(CssInlinerText, OtherMediaStay) {
  EXPECT_EQ(inlined("<style media=print>p{a:b}</style><p></p>"), "<style media=print>p{a:b}</style><p></p>");
}

TEST(CssInlinerLimits, AreClearErrors) {
  CssInlinerLimits small;
  small.max_html_bytes = 10;
  EXPECT_EQ(inline_css("<p>0123456789", small).error().kind, core::ErrorKind::invalid_argument);
  EXPECT_EQ(inline_css(repeat("<p>", 20'001)).error().kind, core::ErrorKind::invalid_argument);
  EXPECT_EQ(inline_css("<style>" + repeat("p{a:b}", 4'001) + "</style><p>").error().kind, core::ErrorKind::invalid_argument);
  EXPECT_EQ(inline_css("<style>" + std::string(300'000, ' ') + "</style>").error().kind, core::ErrorKind::invalid_argument);
  EXPECT_EQ(inline_css("<style>p{a:" + std::string(10'000, 'x') + "}</style>" + repeat("<p></p>", 5'000)).error().kind,
            core::ErrorKind::invalid_argument);
}

/// Whatever comes of it, it comes soon and without a crash.
TEST(CssInlinerLimits, HostileInputEndsSoon) {
  std::string attributes = "<p ";
  for (int i = 0; i < 300'000; ++i) attributes += "a" + std::to_string(i) + " ";
  std::string formatting;
  for (int i = 0; i < 9'000; ++i) formatting += "<b id=" + std::to_string(i) + ">";
  for (const auto& html :
       {repeat("<div>", 20'000), repeat("<b><p>", 9'000), formatting + repeat("<p>", 9'000), attributes + ">", repeat("<table><tr><td>", 6'000),
        "<style>" + repeat("a ", 100'000) + "{b:c}</style>", "<style>" + repeat("a:not(", 30'000) + "</style>", "<style>" + repeat("{", 100'000),
        "<style>" + repeat("div ", 15) + "b{c:d}</style>" + repeat("<div>", 5'000) + "<i>", "<style>" + repeat("*~*~*~*{a:b}", 300) + "</style>" + repeat("<i></i>", 9'000),
        "<style>p{" + repeat("a:b;", 60'000) + "}</style>" + repeat("<p>", 100), std::string(1'000'000, '<'), std::string(1'000'000, '\0')}) {
    const auto begin = std::clock();  // of this process alone, whatever else runs
    auto result = inline_css(html);
    if (!result) EXPECT_EQ(result.error().kind, core::ErrorKind::invalid_argument);
    EXPECT_LT((std::clock() - begin) / CLOCKS_PER_SEC, 20) << "seconds for " << html.substr(0, 40);
  }
}

}  // namespace
}  // namespace flexi::services::mail
