// SPDX-License-Identifier: Apache-2.0
#include "apps/transfer/places.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <filesystem>
#include <sstream>

namespace flexi::apps::transfer {

namespace asio = boost::asio;
using core::Result;

namespace {

constexpr auto kConnectPatience = std::chrono::seconds(8);

std::string absolute(const std::string& folder) {
  std::error_code ignored;
  return std::filesystem::absolute(folder, ignored).lexically_normal().string();
}

bool is_mongo(std::string_view name) { return name.starts_with("mongodb://") || name.starts_with("mongodb+srv://"); }
bool is_postgres_url(std::string_view name) { return name.starts_with("postgresql://") || name.starts_with("postgres://"); }
bool is_postgres(std::string_view name) { return is_postgres_url(name) || (name.find('=') != name.npos && name.find('/') > name.find('=')); }

/// "scheme://host:port/name": who logs in, and how, is nobody else's business.
std::string without_login(std::string_view url) {
  const auto authority = url.find("://") + 3;
  const auto path = std::min(url.find_first_of("/?", authority), url.size());
  const auto login = url.substr(0, path).rfind('@');
  const auto host = login == url.npos ? authority : login + 1;
  const auto query = std::min(url.find('?'), url.size());
  return std::string(url.substr(0, authority)) + std::string(url.substr(host, query - std::min(query, host)));
}

/// A PostgreSQL by what tells one from another.
std::string shown_postgres(const std::string& dsn) {
  if (is_postgres_url(dsn)) return without_login(dsn);
  std::string all = "postgresql";
  std::istringstream words(dsn);
  for (std::string word; words >> word;)
    for (auto* known : {"host=", "hostaddr=", "port=", "dbname=", "service="})
      if (word.starts_with(known)) all += " " + word;
  return all;
}

/// A place as `name` says, or as the settings do.
Result<Place> place_of(const Settings& settings, const std::string& name) {
  Place place{.settings = settings, .parts = {}, .shown = {}};
  auto& own = place.settings;
  if (is_mongo(name) || name == "mongodb") {
    if (name != "mongodb") own.mongo.uri = name;
    if (!own.mongo.configured()) return core::invalid_argument("mongodb is none while MONGO_URI (FLEXI_MONGO_URI) is not set");
    place.parts.logs = true;
    place.shown = without_login(own.mongo.uri);
  } else if (is_postgres(name) || name == "postgresql") {
    if (name != "postgresql") own.postgres.dsn = name;
    if (!own.has_postgres()) return core::invalid_argument("postgresql is none while DSN (FLEXI_POSTGRES_DSN) is not set");
    place.parts.users = true;
    place.shown = shown_postgres(own.postgres.dsn);
  } else {
    if (name != "embedded") own.data_dir = name;
    own.postgres.dsn.clear();
    own.mongo.uri.clear();
    place.shown = absolute(own.data_dir);
  }
  return place;
}

/// A folder keeps what no other place does.
void give_the_rest(std::vector<Place>& places, Parts wanted) {
  auto left = wanted;
  for (auto& place : places) left = {left.users && !place.parts.users, left.logs && !place.parts.logs};
  for (auto& place : places)
    if (place.parts == Parts{}) place.parts = left;
}

Result<void> check(const std::vector<Place>& places, Parts wanted, const std::string& flag) {
  int users = 0, logs = 0;
  for (auto& place : places) users += place.parts.users, logs += place.parts.logs;
  for (auto& place : places)
    if ((place.parts.users && !wanted.users) || (place.parts.logs && !wanted.logs))
      return core::invalid_argument(flag + " " + place.shown + " keeps " + (place.parts.users ? "users" : "log entries") + " only");
  if (users > 1 || logs > 1) return core::invalid_argument(flag + " names two places for " + (users > 1 ? "users" : "log entries"));
  if (wanted.users && users == 0) return core::invalid_argument(flag + " names no place for users");
  if (wanted.logs && logs == 0) return core::invalid_argument(flag + " names no place for log entries");
  return core::ok();
}

Parts embedded(const Place& place) {
  const auto there = place.settings.elsewhere();
  return {place.parts.users && !there.users, place.parts.logs && !there.logs};
}

core::awaitable<void> wait_for(runtime::Readiness& readiness, asio::any_io_executor executor) {
  asio::steady_timer timer(std::move(executor));
  const auto deadline = std::chrono::steady_clock::now() + kConnectPatience;
  while (!readiness.ready() && std::chrono::steady_clock::now() < deadline) {
    timer.expires_after(std::chrono::milliseconds(50));
    co_await timer.async_wait(asio::use_awaitable);
  }
}

}  // namespace

Result<std::vector<Place>> find_places(const Settings& settings, const std::vector<std::string>& names, Parts parts, const std::string& flag) {
  std::vector<Place> places;
  for (auto& name : names) {
    FLEXI_TRY(auto place, place_of(settings, name));
    places.push_back(std::move(place));
  }
  if (names.empty()) {
    const auto there = settings.elsewhere();
    std::vector<std::string> own;
    if (parts.users && there.users) own.emplace_back("postgresql");
    if (parts.logs && there.logs) own.emplace_back("mongodb");
    if (own.size() < static_cast<std::size_t>(parts.users + parts.logs)) own.emplace_back("embedded");
    return find_places(settings, own, parts, flag);
  }
  give_the_rest(places, parts);
  FLEXI_TRY(check(places, parts, flag));
  return places;
}

std::string shown(const std::vector<Place>& places) {
  std::string all;
  for (auto& place : places) all.append(all.empty() ? "" : ", ").append(place.shown);
  return all;
}

Result<std::unique_ptr<OpenPlaces>> OpenPlaces::open(const std::vector<Place>& places, Missing missing) {
  std::unique_ptr<OpenPlaces> open(new OpenPlaces);
  for (auto& place : places) {
    auto& settings = *open->settings_.emplace_back(std::make_unique<Settings>(place.settings));
    settings.log_level = "error";
    if (!open->process_) open->process_ = std::make_unique<Process>(settings, 1);
    const DataDirectory* folder = nullptr;
    if (embedded(place) != Parts{}) {
      FLEXI_TRY(auto opened, DataDirectory::open_shared(settings.data_dir, missing == Missing::make));
      folder = open->folders_.emplace_back(std::make_unique<DataDirectory>(std::move(opened))).get();
    }
    const RoleTraits role{.role = Role::all_in_one, .command = "", .what = "", .http = "", .grpc = "", .rpc = "",
                          .authentication = place.parts.users, .logger = place.parts.logs};
    FLEXI_TRY(auto storage, Storage::open(settings, role, folder, *open->process_));
    auto& kept = *open->storages_.emplace_back(std::make_unique<Storage>(std::move(storage)));
    if (place.parts.users) open->stores_.users = kept.users.get();
    if (place.parts.logs) open->stores_.logs = kept.logs.get();
  }
  FLEXI_TRY(open->wait_until_ready());
  return open;
}

/// A server of another's is reached in its own time.
Result<void> OpenPlaces::wait_until_ready() {
  auto& readiness = process_->readiness;
  process_->shards.run(wait_for(readiness, process_->shards.executor(0)));
  if (readiness.ready()) return core::ok();
  for (auto* part : {"postgresql", "mongodb", "storage"})
    if (auto why = readiness.why(part); !why.empty()) return core::unavailable(std::string(part) + ": " + why);
  return core::unavailable("not ready: " + readiness.to_json());
}

OpenPlaces::~OpenPlaces() {
  for (auto& storage : storages_) {
    process_->shards.run(storage->stop());
    storage->close();
  }
}

}  // namespace flexi::apps::transfer
