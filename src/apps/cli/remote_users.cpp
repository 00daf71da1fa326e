// SPDX-License-Identifier: Apache-2.0
#include <boost/json.hpp>
#include <algorithm>
#include <iostream>

#include "apps/cli/exchange.hpp"
#include "apps/cli/local_commands.hpp"
#include "apps/cli/secret.hpp"

namespace flexi::apps::cli {

namespace json = boost::json;
using core::Result;
using What = UsersOptions::What;

namespace {

bool same_text(std::string_view a, std::string_view b) {
  const auto lower = [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : int{c}; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(static_cast<unsigned char>(x)) == lower(static_cast<unsigned char>(y)); });
}

/// The account's id: `who` itself, or that of the user with this e-mail, found as at a login.
Result<std::string> id_of(const std::string& who, const json::value& users) {
  if (!who.empty() && std::all_of(who.begin(), who.end(), [](unsigned char c) { return std::isdigit(c); })) return who;
  std::vector<std::string> alike;
  if (users.is_array())
    for (auto& user : users.as_array()) {
      if (!user.is_object()) continue;
      const auto email = text(user.as_object(), "email");
      if (email == who) return text(user.as_object(), "id");
      if (same_text(email, who)) alike.push_back(text(user.as_object(), "id"));
    }
  if (alike.size() == 1) return alike.front();
  return core::not_found("no such user");
}

void print(const json::value& data, bool as_json) {
  if (as_json) {
    std::cout << json::serialize(data.is_array() ? data : json::value(json::array{data})) << "\n";
    return;
  }
  if (!data.is_array()) return;
  for (auto& user : data.as_array()) {
    if (!user.is_object()) continue;
    auto& fields = user.as_object();
    std::cout << text(fields, "id") << "  " << printable(text(fields, "email")) << "  " << printable(text(fields, "first_name")) << " " << printable(text(fields, "last_name"))
              << (text(fields, "active") == "1" ? "" : "  (disabled)") << "\n";
  }
}

/// What was done, and the call that does it to the account `id`.
std::pair<const char*, HttpCall> call_of(const UsersOptions& options, const std::string& id, const std::string& password) {
  HttpCall call;
  call.url = "/users/" + id;
  switch (options.what) {
    case What::enable: call.method = "PUT", call.body = R"({"active":1})"; return {"enabled", call};
    case What::disable: call.method = "PUT", call.body = R"({"active":0})"; return {"disabled", call};
    case What::remove: call.method = "DELETE"; return {"deleted", call};
    case What::reset_password:
      call.method = "POST", call.url += "/password";
      call.body = json::serialize(json::object{{"password", password}});
      return {"password changed of", call};
    case What::add: {
      json::object user{{"email", options.email}, {"password", password}};
      if (!options.first_name.empty()) user["first_name"] = options.first_name;
      if (!options.last_name.empty()) user["last_name"] = options.last_name;
      call.method = "POST", call.url = "/users", call.body = json::serialize(user);
      return {"added", call};
    }
    case What::list: break;
  }
  call.url = "/users";
  return {"", call};
}

}  // namespace

int users(const Target& target, const UsersOptions& options) {
  std::string id, password;
  if (options.what == What::add || options.what == What::reset_password) {
    auto read = read_new_password();
    if (!read) return report(read.error());
    password = std::move(read).value();
  }
  if (options.what != What::list && options.what != What::add) {
    auto all = exchange(target, {.url = "/users"});
    if (!all) return report(all.error());
    if (all.value().failed()) return refused(all.value());
    auto* data = all.value().body.if_contains("data");
    auto found = id_of(options.email, data ? *data : json::value());
    if (!found) return report(found.error());
    id = std::move(found).value();
  }
  auto [done, call] = call_of(options, id, password);
  auto answer = exchange(target, std::move(call));
  if (!answer) return report(answer.error());
  if (answer.value().failed()) return refused(answer.value());
  auto* data = answer.value().body.if_contains("data");
  if (options.json || options.what == What::list) print(data ? *data : json::value(), options.json);
  else std::cout << done << " " << (data && data->is_object() ? printable(text(data->as_object(), "email")) : options.email) << "\n";
  return exit_ok;
}

}  // namespace flexi::apps::cli
