// SPDX-License-Identifier: Apache-2.0
// mail_bench smtp kept|new CONNECTIONS SECONDS   mails/s to a server within this process, by kept connections or a new one each
// mail_bench css default|newsletter SECONDS      µs to inline the CSS of one document
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "mailers/smtp/smtp_session.hpp"
#include "services/mail/css_inliner.hpp"
#include "services/mail/mail_templates.hpp"

namespace {

using boost::asio::ip::tcp;
using Clock = std::chrono::steady_clock;

/// Takes every mail and keeps none: a thread for each connection.
class Sink {
 public:
  Sink() : acceptor_(io_, {boost::asio::ip::address_v4::loopback(), 0}), thread_([this] { accept(); }) {}
  ~Sink() { std::_Exit(0); }  // its threads end with the process
  std::int64_t port() const { return acceptor_.local_endpoint().port(); }

 private:
  void accept() {
    for (;;) {
      tcp::socket socket(io_);
      acceptor_.accept(socket);
      socket.set_option(tcp::no_delay(true));
      std::thread([peer = std::move(socket)]() mutable {
        try {
          serve(peer);
        } catch (const boost::system::system_error&) {  // the client went
        }
      }).detach();
    }
  }
  static void say(tcp::socket& socket, std::string_view text) { boost::asio::write(socket, boost::asio::buffer(text)); }
  static void serve(tcp::socket& socket) {
    boost::asio::streambuf buffer;
    say(socket, "220 sink\r\n");
    for (;;) {
      const auto size = boost::asio::read_until(socket, buffer, "\r\n");
      const std::string line(boost::asio::buffers_begin(buffer.data()), boost::asio::buffers_begin(buffer.data()) + static_cast<std::ptrdiff_t>(size));
      buffer.consume(size);
      if (line.starts_with("EHLO")) {
        say(socket, "250-sink\r\n250 SIZE 10000000\r\n");
      } else if (line.starts_with("DATA")) {
        say(socket, "354 go on\r\n");
        buffer.consume(boost::asio::read_until(socket, buffer, "\r\n.\r\n"));
        say(socket, "250 taken\r\n");
      } else if (line.starts_with("QUIT")) {
        return say(socket, "221 bye\r\n");
      } else {
        say(socket, "250 ok\r\n");
      }
    }
  }
  boost::asio::io_context io_;
  tcp::acceptor acceptor_;
  std::thread thread_;
};

double mails_per_second(bool kept, unsigned connections, double seconds) {
  using namespace flexi;
  static Sink sink;
  mailers::smtp::SmtpOptions options;
  options.host = "127.0.0.1";
  options.port = sink.port();
  core::RenderedMail mail;
  mail.from = "from@example.com", mail.to = {"to@example.com"};
  mail.mime = "Subject: bench\r\n\r\n" + std::string(40, '-') + "\r\n";
  for (int i = 0; i < 60; ++i) mail.mime += std::string(70, 'x') + "\r\n";
  std::atomic<long> sent{0};
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration<double>(seconds);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < connections; ++i)
    threads.emplace_back([&] {
      auto session = std::make_unique<mailers::smtp::SmtpSession>(options);
      while (Clock::now() < end) {
        if (!kept) session = std::make_unique<mailers::smtp::SmtpSession>(options);
        if (auto delivered = session->send(mail, {}); !delivered) {
          std::fprintf(stderr, "%s (%s)\n", delivered.error().message.c_str(), delivered.error().detail.c_str());
          std::_Exit(1);
        }
        ++sent;
      }
    });
  for (auto& thread : threads) thread.join();
  return static_cast<double>(sent) / std::chrono::duration<double>(Clock::now() - begin).count();
}

/// 40 rows of a table, 30 rules with ids, classes, descendants, children and a media query.
std::string newsletter() {
  std::string html = "<html><head><style>body{margin:0;padding:0}#top{background:#123}table{border-collapse:collapse}td{padding:4px}td.name{font-weight:bold}"
                     ".row>.price{text-align:right}a[href]{color:#06c}#top h1{font-size:22px !important}@media (max-width:480px){td{padding:2px !important}}";
  for (int i = 0; i < 20; ++i) html += ".c" + std::to_string(i) + " td{color:#0" + std::to_string(10 + i) + "}";
  html += "</style></head><body><div id=top><h1>News</h1></div><table>";
  for (int i = 0; i < 40; ++i)
    html += "<tr class=\"row c" + std::to_string(i % 20) + "\"><td class=name>Item</td><td class=price>1</td><td><a href=\"https://example.com/\">more</a></td></tr>";
  return html + "</table></body></html>";
}

double inlining_micros(const std::string& html, double seconds) {
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration<double>(seconds);
  long documents = 0;
  for (; Clock::now() < end; ++documents)
    if (auto inlined = flexi::services::mail::inline_css(html); !inlined) std::_Exit(1);
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count() / static_cast<double>(documents);
}

}  // namespace

int main(int count, char** words) {
  const auto is = [&](int i, const char* text) { return std::strcmp(words[i], text) == 0; };
  if (count == 5 && is(1, "smtp") && (is(2, "kept") || is(2, "new"))) {
    std::printf("%.1f\n", mails_per_second(is(2, "kept"), static_cast<unsigned>(std::atoi(words[3])), std::atof(words[4])));
  } else if (count == 4 && is(1, "css") && (is(2, "default") || is(2, "newsletter"))) {
    std::printf("%.1f\n", inlining_micros(is(2, "default") ? std::string(flexi::services::mail::kDefaultHtmlTemplate) : newsletter(), std::atof(words[3])));
  } else {
    std::fputs("mail_bench smtp kept|new CONNECTIONS SECONDS\nmail_bench css default|newsletter SECONDS\n", stderr);
    return 2;
  }
  std::fflush(stdout);
  std::_Exit(0);
}
