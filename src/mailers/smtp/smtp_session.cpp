// SPDX-License-Identifier: Apache-2.0
#include "mailers/smtp/smtp_session.hpp"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <optional>

namespace flexi::mailers::smtp {

namespace {

/// What curl's callbacks see of one transfer.
struct Transfer {
  std::string_view unsent;
  std::string answer;  ///< the last answer's lines, at most 1 KiB
  int answer_code = 0;
  bool needs_utf8 = false;  ///< an address is not ASCII
  int hellos_before = 1;    ///< 220 lines before the EHLO that counts: STARTTLS has one of its own
  int welcomes = 0;         ///< 220 lines so far; 0: the connection was kept
  std::optional<bool> takes_utf8{};  ///< what the EHLO's answer said; none: there was none
};

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

bool same_word(std::string_view text, std::string_view upper) {
  const auto same = [](char a, char b) { return (a >= 'a' && a <= 'z' ? a - 32 : a) == b; };
  return text.size() == upper.size() && std::equal(text.begin(), text.end(), upper.begin(), same);
}

/// Notes what a server's greeting says of SMTPUTF8. Source: RFC 5321 section 4.1.1.1, RFC 6531 section 3.1
/// @return false: the mail can't be sent there
bool read_greeting(Transfer& transfer, int code, std::string_view line) {
  const bool last = line.size() < 4 || line[3] == ' ';
  if (code == 220 && last) {
    ++transfer.welcomes;
    transfer.takes_utf8.reset();
  }
  if (code != 250 || transfer.welcomes < transfer.hellos_before || transfer.takes_utf8.value_or(false)) return true;
  if (line.size() > 4 && same_word(line.substr(4), "SMTPUTF8")) transfer.takes_utf8 = true;
  else if (last && !transfer.takes_utf8) transfer.takes_utf8 = false;
  return !(last && transfer.needs_utf8 && !*transfer.takes_utf8);
}

std::size_t read_body(char* buffer, std::size_t size, std::size_t count, void* transfer) {
  auto& unsent = static_cast<Transfer*>(transfer)->unsent;
  const auto n = std::min(size * count, unsent.size());
  std::memcpy(buffer, unsent.data(), n);
  unsent.remove_prefix(n);
  return n;
}

/// Source: RFC 5321 section 4.2 (a reply is lines of "250-text", the last one "250 text")
std::size_t read_answer(char* data, std::size_t size, std::size_t count, void* transfer_pointer) {
  auto& transfer = *static_cast<Transfer*>(transfer_pointer);
  std::string_view line(data, size * count);
  while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (line.size() < 3 || !is_digit(line[0]) || !is_digit(line[1]) || !is_digit(line[2])) return size * count;
  const int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
  if (!read_greeting(transfer, code, line)) return 0;
  // After a refusal curl says QUIT; the goodbye is not the answer that counts.
  if (code == 221 && transfer.answer_code >= 400) return size * count;
  if (code != transfer.answer_code) transfer.answer.clear();
  transfer.answer_code = code;
  if (!transfer.answer.empty()) line.remove_prefix(std::min<std::size_t>(4, line.size()));
  const auto room = 1024 - std::min<std::size_t>(transfer.answer.size(), 1024);
  if (room > 0) transfer.answer.append(transfer.answer.empty() ? "" : " ").append(line.substr(0, room));
  return size * count;
}

/// A server may say anything; strangers get printable text.
std::string printable(std::string text) {
  for (char& c : text)
    if (c < 0x20 || c == 0x7f) c = '?';
  return text;
}

core::Error failure(CURLcode code, const Transfer& transfer, const char* curl_words, long connects, const SmtpOptions& options) {
  if (code == CURLE_WRITE_ERROR && transfer.needs_utf8 && transfer.takes_utf8 == false)
    return core::invalid_argument("the SMTP server takes no address with letters beyond ASCII before the @ (it has no SMTPUTF8)");
  const std::string words = printable(transfer.answer);
  // Behind the last byte of the mail the server may have taken it, unless it has said that it did not.
  const bool refused = transfer.answer_code >= 400;
  const auto sent = transfer.unsent.empty() && !refused ? core::Sent::maybe : core::Sent::no;
  const std::string detail = std::string(curl_easy_strerror(code)) + (*curl_words ? std::string(": ") + curl_words : "");
  core::Error error;
  if (code == CURLE_LOGIN_DENIED) {
    error = core::unavailable("the SMTP server refused the login", words + "; " + detail);
    error.sent = core::Sent::no;
    return error;
  }
  // Only an answer to MAIL, RCPT, DATA or the mail itself speaks of this mail; 530 asks for a login that is not set.
  const bool about_mail = (code == CURLE_SEND_ERROR || code == CURLE_WEIRD_SERVER_REPLY) && transfer.answer_code != 530;
  if (refused && transfer.answer_code >= 500 && about_mail) {
    error = core::invalid_argument("the SMTP server refused the mail: " + words, detail);
  } else if (refused) {
    error = core::unavailable("the SMTP server can't take the mail now: " + words, detail);
    error.retry_after = options.deferred_retry;
  } else if (code == CURLE_OPERATION_TIMEDOUT) {
    error = core::unavailable("the SMTP server did not answer in time", detail);
  } else if (connects == 0 && transfer.answer_code == 0) {
    error = core::unavailable("the SMTP server can't be reached", detail);
  } else {
    error = core::unavailable("the connection to the SMTP server failed", detail);
  }
  // The server is well and speaks of this mail, so the attempt counts; 421 and what comes before MAIL is an outage.
  const bool puts_off = code == CURLE_SEND_ERROR || (code == CURLE_WEIRD_SERVER_REPLY && transfer.unsent.empty());
  error.sent = refused && transfer.answer_code < 500 && transfer.answer_code != 421 && puts_off ? core::Sent::maybe : sent;
  return error;
}

struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

/// Once in a process, and only where there is SMTP: it costs memory.
void initialise_curl() {
  static const bool done = curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK;
  if (!done) std::abort();
}

}  // namespace

struct SmtpSession::Impl {
  const SmtpOptions& options;
  CURL* handle;
  char words[CURL_ERROR_SIZE] = {};
  bool takes_utf8 = false;  ///< the kept connection's server

  explicit Impl(const SmtpOptions& o) : options(o) {
    initialise_curl();
    open();
  }
  ~Impl() { close(); }

  void open() {
    handle = curl_easy_init();
    if (!handle) std::abort();
  }
  void close() {
    // curl says QUIT and waits up to two minutes for the answer. With the reading side shut it sees the end at once.
    curl_socket_t socket = CURL_SOCKET_BAD;
    if (curl_easy_getinfo(handle, CURLINFO_ACTIVESOCKET, &socket) == CURLE_OK && socket != CURL_SOCKET_BAD) ::shutdown(socket, SHUT_RD);
    curl_easy_cleanup(handle);
    takes_utf8 = false;
  }

  void configure(Transfer& transfer, const core::RenderedMail& mail, const curl_slist* recipients, std::chrono::milliseconds time) {
    const bool implicit_tls = options.encryption == "ssl";
    const bool ipv6 = options.host.find(':') != std::string::npos;
    const std::string url = std::string(implicit_tls ? "smtps://" : "smtp://") + (ipv6 ? "[" + options.host + "]" : options.host) + ":" +
                            std::to_string(options.port) + "/" + options.helo_name;
    const std::string from = "<" + mail.from + ">";
    curl_easy_reset(handle);  // keeps the connection
    curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt(handle, CURLOPT_PROXY, "");  // the environment's proxies are not for mail
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_MAXCONNECTS, 1L);
    // Its greeting is asked again: the server may have learnt it.
    if (transfer.needs_utf8 && !takes_utf8) curl_easy_setopt(handle, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, words);
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(time.count()));
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(std::min(time, options.connect_timeout).count()));
    curl_easy_setopt(handle, CURLOPT_USE_SSL, options.encryption == "tls" ? CURLUSESSL_ALL : CURLUSESSL_NONE);
    if (!options.ca_file.empty()) curl_easy_setopt(handle, CURLOPT_CAINFO, options.ca_file.c_str());
    if (!options.username.empty()) {
      curl_easy_setopt(handle, CURLOPT_USERNAME, options.username.c_str());
      curl_easy_setopt(handle, CURLOPT_PASSWORD, options.password.c_str());
    }
    curl_easy_setopt(handle, CURLOPT_MAIL_FROM, from.c_str());
    curl_easy_setopt(handle, CURLOPT_MAIL_RCPT, recipients);
    curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(handle, CURLOPT_READFUNCTION, &read_body);
    curl_easy_setopt(handle, CURLOPT_READDATA, &transfer);
    curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(mail.mime.size()));
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, &read_answer);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, &transfer);
  }
};

SmtpSession::SmtpSession(const SmtpOptions& options) : impl_(std::make_unique<Impl>(options)) {}

SmtpSession::~SmtpSession() = default;

core::Result<core::Delivered> SmtpSession::send(const core::RenderedMail& mail, const core::CallContext& context) {
  // Below the deadline, so that the caller learns the reason rather than that its time is over.
  const auto time = std::min(impl_->options.timeout, context.remaining() * 9 / 10);
  if (time.count() < 1 || context.expired()) return core::deadline_exceeded("the request was not answered in time");

  std::unique_ptr<curl_slist, ListDeleter> recipients;
  for (const auto& to : mail.to) {
    auto* longer = curl_slist_append(recipients.get(), ("<" + to + ">").c_str());
    if (!longer) return core::overloaded("out of memory");
    (void)recipients.release();
    recipients.reset(longer);
  }

  Transfer transfer{.unsent = mail.mime};
  transfer.needs_utf8 = !is_ascii(mail.from) || !std::all_of(mail.to.begin(), mail.to.end(), is_ascii);
  transfer.hellos_before = impl_->options.encryption == "tls" ? 2 : 1;
  impl_->words[0] = '\0';
  impl_->configure(transfer, mail, recipients.get(), time);
  const CURLcode code = curl_easy_perform(impl_->handle);
  long connects = 0;
  curl_easy_getinfo(impl_->handle, CURLINFO_NUM_CONNECTS, &connects);
  // The handle must not keep pointers into this frame.
  curl_easy_setopt(impl_->handle, CURLOPT_MAIL_RCPT, nullptr);
  if (transfer.takes_utf8) impl_->takes_utf8 = *transfer.takes_utf8;
  if (code == CURLE_OK) return core::Delivered::sent;
  auto error = failure(code, transfer, impl_->words, connects, impl_->options);
  // curl 7.88 keeps a connection whose last answer did not come in time: the next mail would take it for its own.
  if (transfer.answer_code < 400) {
    impl_->close();
    impl_->open();
  }
  return error;
}

}  // namespace flexi::mailers::smtp
