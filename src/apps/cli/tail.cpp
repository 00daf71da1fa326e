// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <chrono>
#include <deque>
#include <iostream>
#include <optional>
#include <thread>
#include <unordered_set>

#include "apps/cli/client_commands.hpp"
#include "apps/cli/exchange.hpp"
#include "core/timestamp.hpp"

namespace flexi::apps::cli {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;

namespace {

/// An entry gets its time when it is accepted and is stored later: so far back the list may still fill.
constexpr std::chrono::seconds kLateness{60};
constexpr std::size_t kRemembered = 100'000;  ///< ids, so that an entry that comes twice shows once
constexpr std::size_t kCaughtUp = 50'000;     ///< entries that are held to be shown oldest first

void print_entry(const json::object& entry, bool as_json) {
  if (as_json) std::cout << json::serialize(entry) << std::endl;
  else std::cout << text(entry, "created_at") << "  " << printable(text(entry, "name")) << "  " << printable(text(entry, "data")) << std::endl;
}

/// The log as one sequence, whatever it is put together from: lists and streams overlap, so each entry is known by its id.
class Tail {
 public:
  Tail(const Target& target, const TailOptions& options) : target_(target), options_(options) {
    if (!options.name.empty()) filter_ += "&name=" + url_encode(options.name);
    if (!options.words.empty()) filter_ += "&q=" + url_encode(options.words);
  }

  int run() {
    if (!options_.follow) return show_list();
    auto pause = std::chrono::milliseconds(250);
    std::optional<Clock::time_point> lost;  ///< when there was a stream last
    for (;;) {
      streaming_ = false;
      auto ended = follow();
      if (!std::cout) return exit_ok;  // nobody reads on: `tail | head`
      if (listing_failed_) ended = *std::exchange(listing_failed_, std::nullopt);
      if (streaming_) lost.reset(), pause = std::chrono::milliseconds(250);
      const auto why = reason(ended);
      if (!begun_ || is_final(ended)) return give_up(ended, why);
      if (!lost) {
        lost = Clock::now();
        std::cerr << "flexiconnect: " << why << (options_.reconnect_for.count() > 0 ? "; connecting again\n" : "\n");
      }
      if (Clock::now() + pause > *lost + options_.reconnect_for) {
        if (options_.reconnect_for.count() > 0) std::cerr << "flexiconnect: gave up after " << options_.reconnect_for.count() << " s: " << why << "\n";
        return exit_unreachable;
      }
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, std::chrono::milliseconds(5000));
    }
  }

 private:
  /// Of the streams' end: what the server, or the way to it, said.
  static std::string reason(const core::Result<Envelope>& ended) {
    if (!ended) return ended.error().message;
    if (ended.value().failed()) return ended.value().message() + " (" + std::to_string(ended.value().answer.status) + ")";
    return "the server ended the stream";
  }
  /// What trying again would not change.
  static bool is_final(const core::Result<Envelope>& ended) {
    if (!ended) return ended.error().kind != core::ErrorKind::unavailable;
    const auto status = ended.value().answer.status;
    return status >= 400 && status < 500 && status != 429;
  }
  static int give_up(const core::Result<Envelope>& ended, const std::string& why) {
    if (ended) return refused(ended.value());
    std::cerr << "flexiconnect: " << why << "\n";
    return ended.error().kind == core::ErrorKind::unavailable ? exit_unreachable : exit_refused;
  }

  /// One stream, until it ends. What is listed is listed once the stream is open, so nothing falls between the two.
  core::Result<Envelope> follow() {
    HttpCall request;
    request.url = target_.url + "/logs/tail" + (filter_.empty() ? "" : "?" + filter_.substr(1));
    request.timeout = std::chrono::milliseconds(0);
    FLEXI_TRY(request.headers, authorization(target_));
    FLEXI_TRY(auto answer, call_lines(request, [this] { return opened(); }, [this](std::string_view line) { return take(line); }));
    if (answer.status < 400) return Envelope{.answer = std::move(answer), .body = {}};
    return envelope_of(request.url, std::move(answer));
  }
  bool opened() {
    auto listed = begun_ ? catch_up() : begin();
    if (!listed || listed.value().failed()) {
      listing_failed_ = std::move(listed);
      return false;
    }
    if (begun_) std::cerr << "flexiconnect: connected again\n";
    return begun_ = streaming_ = true;
  }
  bool take(std::string_view line) {
    if (!line.starts_with("data:")) return static_cast<bool>(std::cout);
    boost::system::error_code ec;
    auto parsed = json::parse(line.substr(5), ec);
    if (ec || !parsed.is_object()) return true;
    auto& entry = parsed.as_object();
    if (!entry.contains("dropped")) {
      if (remember(entry)) print_entry(entry, target_.json);
      return static_cast<bool>(std::cout);
    }
    auto listed = catch_up();
    if (listed && !listed.value().failed()) return true;
    listing_failed_ = std::move(listed);
    return false;
  }

  int show_list() {
    if (options_.lines == 0) return exit_ok;
    auto listed = begin();
    if (!listed) return report(listed.error());
    return listed.value().failed() ? refused(listed.value()) : exit_ok;
  }
  /// Shows the newest entries, and notes where the log ended when this began.
  core::Result<Envelope> begin() {
    FLEXI_TRY(auto page, list(std::max(options_.lines, 1u), "", ""));
    auto entries = entries_of(page);
    for (auto it = entries.rbegin(); it != entries.rend(); ++it) {
      newest_ = std::max(newest_, text(*it, "created_at"));
      if (options_.lines > 0 && remember(*it)) print_entry(*it, target_.json);
    }
    begin_ = newest_;
    return page;
  }
  /// Shows what was stored since, and not shown.
  core::Result<Envelope> catch_up() {
    const auto since = since_when();
    std::vector<json::object> missed;
    std::string cursor;
    Envelope page;
    do {
      FLEXI_TRY(page, list(500, since, cursor));
      if (page.failed()) return page;
      for (auto& entry : entries_of(page))
        if (text(entry, "created_at") > begin_ && !seen_.contains(text(entry, "id"))) missed.push_back(std::move(entry));
      cursor = text(page.body, "next");
    } while (!cursor.empty() && missed.size() < kCaughtUp);
    if (!cursor.empty()) std::cerr << "flexiconnect: older entries than the next " << missed.size() << " were missed: read them from /logs\n";
    for (auto it = missed.rbegin(); it != missed.rend(); ++it)
      if (remember(*it)) print_entry(*it, target_.json);
    return page;
  }
  /// Not before this began, and not before what is still remembered.
  std::string since_when() const {
    if (newest_.empty()) return "";
    auto since = begin_;
    if (auto newest = core::parse_rfc3339(newest_)) since = std::max(since, core::to_rfc3339(newest.value() - kLateness));
    return std::max(since, forgotten_);
  }
  core::Result<Envelope> list(unsigned limit, const std::string& since, const std::string& cursor) const {
    HttpCall request;
    request.url = "/logs?limit=" + std::to_string(limit) + filter_;
    if (!since.empty()) request.url += "&since=" + url_encode(since);
    if (!cursor.empty()) request.url += "&cursor=" + url_encode(cursor);
    return exchange(target_, request);
  }
  static std::vector<json::object> entries_of(const Envelope& page) {
    std::vector<json::object> entries;
    if (auto* data = page.body.if_contains("data"); data && data->is_array())
      for (auto& entry : data->as_array())
        if (entry.is_object()) entries.push_back(entry.as_object());
    return entries;
  }
  /// @return whether it is new
  bool remember(const json::object& entry) {
    auto id = text(entry, "id"), time = text(entry, "created_at");
    if (!seen_.insert(id).second) return false;
    newest_ = std::max(newest_, time);
    order_.push_back({std::move(id), std::move(time)});
    if (order_.size() > kRemembered) {
      forgotten_ = std::max(forgotten_, order_.front().time);
      seen_.erase(order_.front().id);
      order_.pop_front();
    }
    return true;
  }

  struct Shown {
    std::string id, time;
  };
  const Target& target_;
  const TailOptions& options_;
  std::string filter_;
  bool begun_ = false;      ///< there was a stream
  bool streaming_ = false;  ///< the last try came to be one
  std::optional<core::Result<Envelope>> listing_failed_;
  std::unordered_set<std::string> seen_;
  std::deque<Shown> order_;
  std::string begin_, newest_, forgotten_;  ///< times as the server writes them, which sort as text
};

}  // namespace

int tail(const Target& target, const TailOptions& options) { return Tail(target, options).run(); }

}  // namespace flexi::apps::cli
