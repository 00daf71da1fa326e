// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mime_composer.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "services/mail/mime_encoding.hpp"

namespace flexi::services::mail {
namespace {

MimeContent content() {
  MimeContent c;
  c.id = core::MessageId::parse("order:17..x.").value();
  c.domain = "example.com";
  c.from = {"Jürgen Groß", "j@example.com"};
  c.to = {{"", "a@example.com"}, {"Doe, \"J\"", "b@example.com"}};
  c.subject = "Grüße";
  c.plain = "hällo\n.\nFrom x\ntrailing \n" + std::string(200, 'x') + "=\n";
  c.html = "<p>hällo</p>\n";
  c.date = core::parse_rfc3339("2026-11-24T01:19:36Z").value();
  return c;
}

void expect_sound(const std::string& mime) {
  std::size_t at = 0;
  while (at < mime.size()) {
    const auto end = mime.find("\r\n", at);
    ASSERT_NE(end, std::string::npos) << "a line without CRLF";
    const auto line = mime.substr(at, end - at);
    EXPECT_LE(line.size(), 998u);
    EXPECT_EQ(line.find_first_of("\r\n"), std::string::npos);
    for (unsigned char c : line) EXPECT_LT(c, 0x80) << line;
    at = end + 2;
  }
}

/// What Python's email package reads, as JSON.
runtime::JsonObject read_with_python(const std::string& mime) {
  std::string path = testing::TempDir() + "/mimeXXXXXX";
  ::close(::mkstemp(path.data()));
  std::ofstream(path, std::ios::binary) << mime;
  const std::string command =
      "/usr/bin/python3 -c \"import email,email.policy,json,sys\n"
      "m=email.message_from_binary_file(open(sys.argv[1],'rb'),policy=email.policy.default)\n"
      "p=list(m.iter_parts())\n"
      "print(json.dumps(dict(subject=m['subject'],sender=m['from'].addresses[0].display_name,sender_spec=m['from'].addresses[0].addr_spec,"
      "recipients=';'.join(a.display_name+'|'+a.addr_spec for a in m['to'].addresses),type=m.get_content_type(),date=m['date'].datetime.isoformat(),"
      "id=m['message-id'],plain=p[0].get_content(),html=p[1].get_content(),plain_type=p[0].get_content_type(),html_type=p[1].get_content_type(),"
      "parts=len(p),defects=len(m.defects)+sum(len(x.defects) for x in p)+sum(len(h.defects) for h in m.values()))))\" " +
      path;
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), &::pclose);
  std::string out;
  for (int c; (c = std::fgetc(pipe.get())) != EOF;) out += static_cast<char>(c);
  ::unlink(path.c_str());
  auto object = runtime::JsonObject::parse(out);
  EXPECT_TRUE(object) << out;
  return object ? object.value() : runtime::JsonObject::parse("{}").value();
}

TEST(Mime, PythonReadsBackWhatWasComposed) {
  const auto c = content();
  const auto mime = compose_mime(c);
  expect_sound(mime);
  auto read = read_with_python(mime);
  EXPECT_EQ(read.required_string("subject").value(), c.subject);
  EXPECT_EQ(read.required_string("sender").value(), c.from.name);
  EXPECT_EQ(read.required_string("sender_spec").value(), c.from.addr_spec);
  EXPECT_EQ(read.required_string("recipients").value(), "|a@example.com;Doe, \"J\"|b@example.com");
  EXPECT_EQ(read.required_string("type").value(), "multipart/alternative");
  EXPECT_EQ(read.required_string("plain_type").value(), "text/plain");
  EXPECT_EQ(read.required_string("html_type").value(), "text/html");
  EXPECT_EQ(read.required_string("date").value(), "2026-11-24T01:19:36+00:00");
  EXPECT_EQ(read.required_string("plain").value(), c.plain);
  EXPECT_EQ(read.required_string("html").value(), c.html);
  EXPECT_EQ(read.required_string("id").value(), "<order=3A17.=2Ex=2E@example.com>");
  EXPECT_EQ(read.integer("parts").value(), 2);
  EXPECT_EQ(read.integer("defects").value(), 0);
}

TEST(Mime, AwkwardSubjectsReadBackUnchanged) {
  for (const std::string& subject :
       {std::string("plain words"), std::string("looks =?UTF-8?Q?encoded?= but is not"), std::string(998, 'a'), "x " + std::string(900, 'b') + " y",
        std::string("  spaces  at  ends  "), std::string("\ttab"), std::string("日本語の件名はとても長いので二つ以上の語に分けられる 🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉"),
        std::string("many short words that need to be folded because they are longer than one line of seventy-eight columns, twice over, at the very least")}) {
    auto c = content();
    c.subject = subject;
    const auto mime = compose_mime(c);
    expect_sound(mime);
    EXPECT_EQ(read_with_python(mime).required_string("subject").value(), subject);
  }
}

/// What Python's email package reads of a mail with attachments, as one text.
std::string attachments_by_python(const std::string& mime) {
  std::string path = testing::TempDir() + "/mimeXXXXXX";
  ::close(::mkstemp(path.data()));
  std::ofstream(path, std::ios::binary) << mime;
  const std::string command =
      "/usr/bin/python3 -c \"import email,email.policy,sys\n"
      "m=email.message_from_binary_file(open(sys.argv[1],'rb'),policy=email.policy.default)\n"
      "b=m.get_body(('html','plain'))\n"
      "w=[m.get_content_type(),b.get_content_type(),b.get_content().strip(),str(m['cc']),str(m['reply-to']),str(m['bcc'])]\n"
      "for a in m.iter_attachments(): w+=[a.get_filename(),a.get_content_type(),a.get_payload(decode=True).hex()]\n"
      "w.append(str(sum(len(x.defects)+sum(len(h.defects) for h in x.values()) for x in m.walk())))\n"
      "sys.stdout.reconfigure(encoding='utf-8')\n"
      "print('|'.join(w),end='')\" " + path;
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), &::pclose);
  std::string out;
  for (int c; (c = std::fgetc(pipe.get())) != EOF;) out += static_cast<char>(c);
  ::unlink(path.c_str());
  return out;
}

TEST(Mime, AttachmentsAreReadBackByteForByteUnderTheirNames) {
  auto mail = content();
  mail.cc = {{"", "c@example.com"}};
  mail.reply_to = Address{"Réponse", "r@example.com"};
  std::string every;
  for (int i = 0; i < 256; ++i) every += static_cast<char>(i);
  std::string long_name = "käse ";
  for (int i = 0; i < 60; ++i) long_name += "é";
  mail.attachments = {{"a \"b\"; c.txt", "text/plain; charset=utf-8", every + "\r\n.\r\n"}, {long_name + ".pdf", "application/pdf", ""}, {"x.bin", "", std::string(57, '\xff')}};
  const auto mime = compose_mime(mail);
  expect_sound(mime);
  std::string hex;
  for (unsigned char c : every + "\r\n.\r\n") {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", c);
    hex += two;
  }
  std::string ff;
  for (int i = 0; i < 57; ++i) ff += "ff";
  EXPECT_EQ(attachments_by_python(mime), "multipart/mixed|text/html|<p>hällo</p>|c@example.com|Réponse <r@example.com>|None|a \"b\"; c.txt|text/plain|" + hex + "|" +
                                             long_name + ".pdf|application/pdf||x.bin|application/octet-stream|" + ff + "|0");
  EXPECT_EQ(mime, compose_mime(mail)) << "the same bytes again";
}

TEST(Mime, TheSameContentGivesTheSameBytes) {
  EXPECT_EQ(compose_mime(content()), compose_mime(content()));
  auto other = content();
  other.id = core::MessageId::parse("other").value();
  EXPECT_NE(compose_mime(content()), compose_mime(other));
}

TEST(Mime, MessageIdsStayDistinct) {
  auto header = [](const char* id) { return message_id_header(core::MessageId::parse(id).value(), "d"); };
  EXPECT_EQ(header("0199-a"), "<0199-a@d>");
  EXPECT_NE(header("a:b"), header("a=3Ab"));
  EXPECT_EQ(header("a@b<c>"), "<a=40b=3Cc=3E@d>");
}

TEST(QuotedPrintable, EncodesWhatMustBe) {
  EXPECT_EQ(quoted_printable(""), "\r\n");
  EXPECT_EQ(quoted_printable("a=b"), "a=3Db\r\n");
  EXPECT_EQ(quoted_printable("a \nb\t\r\nc\rd"), "a=20\r\nb=09\r\nc\r\nd\r\n");
  EXPECT_EQ(quoted_printable("\n\n"), "\r\n\r\n");
  EXPECT_EQ(quoted_printable(std::string(76, 'x')), std::string(76, 'x') + "\r\n");
  EXPECT_EQ(quoted_printable(std::string(77, 'x')), std::string(75, 'x') + "=\r\nxx\r\n");
  EXPECT_EQ(quoted_printable(std::string("\0", 1)), "=00\r\n");
}

}  // namespace
}  // namespace flexi::services::mail
