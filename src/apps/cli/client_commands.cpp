// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/client_commands.hpp"

#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>

#include "apps/cli/exchange.hpp"
#include "apps/cli/http_call.hpp"
#include "apps/cli/secret.hpp"

namespace flexi::apps::cli {

namespace json = boost::json;

namespace {

constexpr auto kSweepTime = std::chrono::milliseconds(20'000);  ///< that one request over all dead letters may take; another follows where it was not enough

/// The fields of the contract's own actions; a typing error must not be dropped without a word.
core::Result<void> check_fields(const SendOptions& options, const json::object& payload) {
  struct Fields {
    std::string_view action;
    std::vector<std::string_view> names;
  };
  static const Fields kContract[] = {{"log", {"name", "data"}},
                                     {"mail", {"from", "to", "cc", "bcc", "reply_to", "subject", "message", "template"}},  // the rest is no text: --payload
                                     {"auth", {"email", "password"}}};
  for (auto& [action, names] : kContract) {
    if (action != options.action) continue;
    for (auto& [field, value] : payload) {
      if (std::find(names.begin(), names.end(), std::string_view(field)) != names.end()) continue;
      std::string known;
      for (auto name : names) known.append(known.empty() ? "" : ", ").append(name);
      return core::invalid_argument(std::string(action) + " has no field \"" + std::string(field) + "\": its fields are " + known);
    }
  }
  return core::ok();
}

core::Result<json::value> payload_of(SendOptions& options) {
  if (!options.payload.empty() && !options.fields.empty()) return core::invalid_argument("give the fields, or --payload with all of them, not both");
  if (options.payload == "-") options.payload.assign(std::istreambuf_iterator<char>(std::cin), {});
  if (!options.payload.empty()) {
    boost::system::error_code ec;
    auto parsed = json::parse(options.payload, ec);
    if (ec) return core::invalid_argument("--payload is not valid JSON: " + ec.message());
    return parsed;
  }
  json::object payload;
  for (auto& field : options.fields) {
    const auto equals = field.find('=');
    if (equals == field.npos || equals == 0) return core::invalid_argument("\"" + field + "\" must be name=value, e.g. name=greeting");
    if (field.substr(0, equals) == "password") return core::invalid_argument("a password on the command line is visible to others: leave it out and type it, or pipe it in");
    payload[field.substr(0, equals)] = field.substr(equals + 1);
  }
  FLEXI_TRY(check_fields(options, payload));
  if (options.action == "auth" && !payload.contains("password")) {
    FLEXI_TRY(auto password, read_password("Password: "));
    payload["password"] = password;
  }
  return json::value(std::move(payload));
}

int send_once(const Target& target, const HttpCall& request, bool print) {
  auto sent = exchange(target, request);
  if (!sent) return report(sent.error());
  auto& envelope = sent.value();
  if (envelope.failed()) return refused(envelope);
  if (!print) return exit_ok;
  if (target.json) {
    envelope.body["id"] = envelope.answer.headers["x-flexi-id"];
    envelope.body["way"] = envelope.answer.headers["x-flexi-way"];
    std::cout << json::serialize(envelope.body) << "\n";
    return exit_ok;
  }
  std::cout << envelope.message() << "  (" << envelope.answer.status << ", way " << envelope.answer.headers["x-flexi-way"] << ", id "
            << envelope.answer.headers["x-flexi-id"] << ")\n";
  if (auto* data = envelope.body.if_contains("data")) std::cout << json::serialize(*data) << "\n";
  return exit_ok;
}

const json::array& list(const json::object& object, const char* key) {
  static const json::array kNone;
  auto* value = object.if_contains(key);
  return value && value->is_array() ? value->as_array() : kNone;
}

/// One figure a line for people; --json has them all.
void print_status(const json::object& system) {
  std::cout << "FlexiConnect " << text(system, "version") << "  " << text(system, "role") << "  pid " << text(system, "pid") << "  up " << text(system, "uptime_seconds") << " s\n";
  if (auto* readiness = system.if_contains("readiness"); readiness && readiness->is_object()) {
    const bool ready = text(readiness->as_object(), "ready") == "true";
    std::cout << (ready ? "ready" : "not ready");
    if (auto* parts = readiness->as_object().if_contains("parts"); parts && parts->is_object())
      for (auto& [part, why] : parts->as_object())
        if (why.is_string() && why.as_string() != "ok") std::cout << "; " << part << ": " << printable(why.as_string());
    std::cout << "\n";
  }
  for (auto& entry : list(system, "listening")) std::cout << "listening  " << text(entry.as_object(), "endpoint") << "\n";
  auto rates = [](const json::object& row) {
    const auto p50 = text(row, "p50_ms"), p99 = text(row, "p99_ms");
    std::cout << "  " << text(row, "calls_per_second_10s") << "/s";
    if (!p50.empty()) std::cout << "  p50 ~" << p50 << " ms  p99 ~" << p99 << " ms";
  };
  for (auto& entry : list(system, "actions")) {
    auto& action = entry.as_object();
    std::cout << "action " << text(action, "action");
    rates(action);
    std::cout << "\n";
    for (auto& row : list(action, "ways")) {
      auto& way = row.as_object();
      std::cout << "  " << text(way, "via") << "  " << text(way, "state") << (text(way, "forbidden") == "true" ? " (forbidden)" : "") << "  calls " << text(way, "calls")
                << "  errors " << text(way, "errors");
      rates(way);
      std::cout << "\n";
    }
  }
  if (auto* queue = system.if_contains("queue"); queue && queue->is_object()) {
    if (auto address = text(queue->as_object(), "address"); !address.empty())
      std::cout << "rabbitmq  " << printable(address) << "  " << printable(text(queue->as_object(), "version")) << (text(queue->as_object(), "connected") == "true" ? "  connected" : "  not connected") << "\n";
    std::cout << "queue  " << text(queue->as_object(), "kind") << "  depth " << text(queue->as_object(), "depth") << "  dead letters " << text(queue->as_object(), "dead_letters") << "\n";
  }
  for (auto& entry : list(system, "stores")) std::cout << "store  " << text(entry.as_object(), "name") << "  " << text(entry.as_object(), "state") << "\n";
  for (auto& entry : list(system, "peers"))
    for (auto& row : list(entry.as_object(), "addresses"))
      std::cout << "peer  " << printable(text(entry.as_object(), "peer")) << "  " << text(row.as_object(), "address") << "  " << text(row.as_object(), "state") << "\n";
}

int show_letter(const json::object& letter, bool as_json) {
  if (as_json) {
    std::cout << json::serialize(letter) << "\n";
    return exit_ok;
  }
  for (auto& [key, value] : letter) std::cout << key << ": " << printable(value.is_string() ? std::string(value.as_string()) : json::serialize(value)) << "\n";
  return exit_ok;
}

/// One page of the dead-letter queue.
core::Result<Envelope> dlq_page(const Target& target, unsigned limit, const std::string& cursor) {
  HttpCall request;
  request.url = "/dlq?limit=" + std::to_string(limit) + (cursor.empty() ? "" : "&cursor=" + url_encode(cursor));
  return exchange(target, request);
}

std::string dlq_url(const std::string& id, const char* what, const std::string& action) {
  return "/dlq/" + url_encode(id) + what + (action.empty() ? "" : "?action=" + url_encode(action));
}

/// Whether the page is all that it should be; else says what could not be asked.
bool complete(const Envelope& page) {
  const auto message = page.message();
  if (message == "ok") return true;
  std::cerr << "flexiconnect: " << message << "\n";
  return false;
}

/// Replays or discards one letter.
core::Result<Envelope> dlq_act(const Target& target, DlqOptions::What what, const std::string& id, const std::string& action) {
  HttpCall request;
  request.method = what == DlqOptions::What::replay ? "POST" : "DELETE";
  request.url = dlq_url(id, what == DlqOptions::What::replay ? "/replay" : "", action);
  return exchange(target, request);
}

/// Asked of people only: a script that says --all means it.
bool confirmed(const DlqOptions& options) {
  if (options.yes || options.what != DlqOptions::What::discard || !::isatty(STDIN_FILENO)) return true;
  std::cerr << "Discard all failed messages for good? [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

/// One sweep after the other, each as long as a request may take, until nothing of what is there now is left.
int dlq_all(const Target& target, const DlqOptions& options) {
  if (!confirmed(options)) {
    std::cerr << "flexiconnect: nothing was discarded\n";
    return exit_refused;
  }
  const bool replay = options.what == DlqOptions::What::replay;
  const char* did = replay ? "replayed" : "discarded";
  std::uint64_t done = 0;
  std::string before;  // the broker's time of the first: a replayed message that dies again must not be replayed for ever
  for (bool more = true; more;) {
    HttpCall request;
    request.method = replay ? "POST" : "DELETE";
    request.url = std::string("/dlq") + (replay ? "/replay" : "") + "?all=true" + (before.empty() ? "" : "&before=" + url_encode(before));
    request.headers.push_back("X-Flexi-Timeout-Ms: " + std::to_string(kSweepTime.count()));
    request.timeout = kSweepTime + std::chrono::seconds(2);
    auto swept = exchange(target, request);
    const bool failed = !swept || swept.value().failed();
    if (failed && done > 0) std::cerr << "flexiconnect: " << done << " " << did << " before this:\n";
    if (!swept) return report(swept.error());
    if (failed) return refused(swept.value());
    auto* data = swept.value().body.if_contains("data");
    if (!data || !data->is_object()) return report(core::internal("the broker's answer to " + request.url + " was not understood"));
    const auto letters = text(data->as_object(), "letters");
    std::uint64_t count = 0;
    std::from_chars(letters.data(), letters.data() + letters.size(), count);
    done += count;
    more = text(data->as_object(), "more") == "true" && count > 0;
    before = text(data->as_object(), "before");
    if (::isatty(STDERR_FILENO) && more) std::cerr << "\r" << done << std::flush;
  }
  if (::isatty(STDERR_FILENO)) std::cerr << "\r";
  if (target.json) std::cout << json::serialize(json::object{{did, done}}) << "\n";
  else std::cout << done << " " << did << "\n";
  return exit_ok;
}

}  // namespace

int send(const Target& target, SendOptions options) {
  auto payload = payload_of(options);
  if (!payload) {
    std::cerr << "flexiconnect: " << payload.error().message << "\n";
    return exit_usage;
  }
  json::object body{{"action", options.action}, {options.action, payload.value()}};
  if (!options.via.empty()) body["via"] = options.via;
  if (!options.ack.empty()) body["ack"] = options.ack;
  HttpCall request;
  request.method = "POST";
  request.url = "/handle";
  request.body = json::serialize(body);
  if (!options.key.empty()) request.headers.push_back("Idempotency-Key: " + options.key);
  if (options.timeout_ms > 0) {
    request.headers.push_back("X-Flexi-Timeout-Ms: " + std::to_string(options.timeout_ms));
    request.timeout = std::chrono::milliseconds(options.timeout_ms + 2000);
  }
  const bool progress = options.repeat > 1 && ::isatty(STDERR_FILENO);
  for (unsigned i = 0; i < options.repeat; ++i) {
    if (int code = send_once(target, request, options.repeat == 1 || target.json); code != exit_ok) return code;
    if (progress) std::cerr << "\r" << i + 1 << " of " << options.repeat << std::flush;
  }
  if (progress) std::cerr << "\r";
  if (options.repeat > 1 && !target.json) std::cout << options.repeat << " sent\n";
  return exit_ok;
}

int dlq(const Target& target, const DlqOptions& options) {
  using What = DlqOptions::What;
  if (options.all) return dlq_all(target, options);
  if (options.what == What::list) {
    auto page = dlq_page(target, options.limit, options.cursor);
    if (!page) return report(page.error());
    if (page.value().failed()) return refused(page.value());
    auto* data = page.value().body.if_contains("data");
    const json::array letters = data && data->is_array() ? data->as_array() : json::array();
    (void)complete(page.value());
    // On standard error, so that a script reads the messages alone.
    if (auto next = text(page.value().body, "next"); !next.empty()) std::cerr << "there are more: --cursor " << next << "\n";
    if (target.json) {
      std::cout << json::serialize(letters) << "\n";
      return exit_ok;
    }
    for (auto& letter : letters) {
      auto& object = letter.as_object();
      std::cout << text(object, "id") << "  " << text(object, "action") << "  tries " << text(object, "attempts") << "  " << text(object, "dead_at") << "  "
                << printable(text(object, "reason")) << "\n";
    }
    if (letters.empty()) std::cerr << "no failed messages\n";
    return exit_ok;
  }
  if (options.what == What::show) {
    HttpCall request;
    request.url = dlq_url(options.id, "", options.action);
    auto shown = exchange(target, request);
    if (!shown) return report(shown.error());
    if (shown.value().failed()) return refused(shown.value());
    return show_letter(shown.value().body.at("data").as_object(), target.json);
  }
  auto acted = dlq_act(target, options.what, options.id, options.action);
  if (!acted) return report(acted.error());
  if (acted.value().failed()) return refused(acted.value());
  if (target.json) std::cout << json::serialize(acted.value().body) << "\n";
  else std::cout << acted.value().message() << "\n";
  return exit_ok;
}

int status(const Target& target) {
  HttpCall request;
  request.url = "/system";
  auto answer = exchange(target, request);
  if (!answer) return report(answer.error());
  if (answer.value().failed()) return refused(answer.value());
  auto* data = answer.value().body.if_contains("data");
  if (!data || !data->is_object()) return report(core::internal(target.url + " told nothing of itself"));
  if (target.json) std::cout << json::serialize(*data) << "\n";
  else print_status(data->as_object());
  return exit_ok;
}

int receipt(const Target& target, const std::string& id, const std::string& action) {
  HttpCall request;
  request.url = "/receipts/" + url_encode(id) + (action.empty() ? "" : "?action=" + url_encode(action));
  auto found = exchange(target, request);
  if (!found) return report(found.error());
  if (found.value().failed()) return refused(found.value());
  auto& data = found.value().body.at("data").as_object();
  const auto state = text(data, "state");
  if (target.json) {
    std::cout << json::serialize(data) << "\n";
  } else {
    std::cout << printable(text(data, "id")) << "  " << state << (data.contains("where") ? "  (" + text(data, "where") + ")" : "") << "\n";
    for (auto* key : {"action", "reason", "accepted_at", "at", "attempts", "duplicates", "trace_id"})
      if (data.contains(key)) std::cout << "  " << key << ": " << printable(text(data, key)) << "\n";
    if (auto* hops = data.if_contains("hops"))
      for (auto& hop : hops->as_array()) std::cout << "  " << text(hop.as_object(), "time") << "  " << printable(text(hop.as_object(), "at")) << "\n";
    if (auto* missing = data.if_contains("not_asked")) std::cerr << "flexiconnect: not all could be asked: " << json::serialize(*missing) << "\n";
  }
  return state == "unknown" ? exit_refused : exit_ok;
}

int ledger(const Target& target) {
  HttpCall request;
  request.url = "/ledger";
  auto read = exchange(target, request);
  if (!read) return report(read.error());
  if (read.value().failed()) return refused(read.value());
  auto& data = read.value().body.at("data").as_object();
  if (target.json) {
    std::cout << json::serialize(data) << "\n";
  } else {
    constexpr const char* kColumns[] = {"accepted", "stored", "dead_lettered", "discarded", "expired", "in_flight", "unaccounted", "duplicates", "redelivered"};
    const auto print = [&](const std::string& action, const std::string& way, const json::object* line) {
      std::printf("%-16s %-7s", printable(action).c_str(), printable(way).c_str());
      for (auto* column : kColumns) std::printf(" %13s", line ? text(*line, column).c_str() : column);
      std::printf("\n");
    };
    print("action", "way", nullptr);
    for (auto& line : data.at("lines").as_array()) print(text(line.as_object(), "action"), text(line.as_object(), "way"), &line.as_object());
    print("all", "", &data);
    std::fflush(stdout);
  }
  if (auto& missing = data.at("not_asked").as_array(); !missing.empty()) std::cerr << "flexiconnect: not all could be asked: " << json::serialize(missing) << "\n";
  if (data.at("moving").as_bool()) std::cerr << "flexiconnect: messages came and went while it was read\n";
  return data.at("adds_up").as_bool() || data.at("moving").as_bool() ? exit_ok : exit_refused;
}

int healthcheck(const Target& target) {
  HttpCall request;
  request.url = target.url + "/healthz";
  request.timeout = std::chrono::milliseconds(3000);
  auto answer = call(request);
  if (!answer) return report(answer.error());
  if (answer.value().status == 200) return exit_ok;
  std::cerr << "flexiconnect: " << request.url << " answered " << answer.value().status << "\n";
  return exit_refused;
}

}  // namespace flexi::apps::cli
