// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/server.hpp"

#include <mongoc/mongoc.h>

#include <algorithm>
#include <utility>

namespace flexi::stores::mongo {

namespace {

template <auto destroy>
struct Destroy {
  void operator()(auto* what) const { destroy(what); }
};
using Uri = std::unique_ptr<mongoc_uri_t, Destroy<mongoc_uri_destroy>>;
using Collection = std::unique_ptr<mongoc_collection_t, Destroy<mongoc_collection_destroy>>;
using Cursor = std::unique_ptr<mongoc_cursor_t, Destroy<mongoc_cursor_destroy>>;
using ReadPrefs = std::unique_ptr<mongoc_read_prefs_t, Destroy<mongoc_read_prefs_destroy>>;
using WriteConcern = std::unique_ptr<mongoc_write_concern_t, Destroy<mongoc_write_concern_destroy>>;


/// What the driver's functions fill, whether they succeed or not.
struct Reply {
  bson_t bson;
  Reply() { bson_init(&bson); }
  ~Reply() { bson_destroy(&bson); }
  Reply(const Reply&) = delete;
};

/// The typedef promises an alignment that the driver's own documents on the heap don't have.
const bson_t* raw(const Bson& bson) { return static_cast<const bson_t*>(static_cast<const void*>(bson.get())); }

/// The driver wants to be told once per process before anything else, and would write lines of its own to standard error.
void start_driver() {
  static const bool started = [] {
    mongoc_init();
    mongoc_log_set_handler(nullptr, nullptr);
    return true;
  }();
  (void)started;
}

namespace codes {
constexpr int kBadValue = 2, kUnauthorized = 13, kAuthenticationFailed = 18, kInvalidBson = 22, kMaxTimeExpired = 50, kValidation = 121, kDuplicate = 11000,
              kDuplicateUpdate = 11001, kDuplicateCapped = 12582, kTooLarge = 10334, kKeyTooLong = 17280, kDiskFull = 14031, kAtlasAuthentication = 8000,
              kNotPrimary = 10107, kNotPrimaryNoSecondaryOk = 13435;
}

bool is_duplicate(int code) { return code == codes::kDuplicate || code == codes::kDuplicateUpdate || code == codes::kDuplicateCapped; }

core::Error maybe_sent(core::Error error) {
  error.sent = core::Sent::maybe;
  return error;
}

/// What the server itself said to a whole command.
Failure refused_by_server(int code, std::string words) {
  words = "MongoDB says " + std::to_string(code) + ": " + words;
  switch (code) {
    case codes::kAuthenticationFailed:
    case codes::kAtlasAuthentication: return {core::unavailable("MongoDB refuses the user or the password", std::move(words)), code, true};
    case codes::kUnauthorized: return {core::unavailable("MongoDB does not allow its user to do this", std::move(words)), code, true};
    case codes::kMaxTimeExpired: return {core::deadline_exceeded("the search took too long, narrow it or allow more time", std::move(words)), code, false};
    case codes::kDiskFull: return {core::unavailable("MongoDB's disk is full, nothing was stored", std::move(words)), code, false};
    case codes::kNotPrimary:
    case codes::kNotPrimaryNoSecondaryOk: return {core::unavailable("MongoDB has no primary just now", std::move(words)), code, true};
    default: return {maybe_sent(core::unavailable("MongoDB failed", std::move(words))), code, false};
  }
}

Failure failure_of(const bson_error_t& error) {
  std::string words = error.message;
  const int code = static_cast<int>(error.code);
  switch (error.domain) {
    case MONGOC_ERROR_SERVER_SELECTION:
      // The driver wraps what the handshake said: a password that is wrong is not a server that is away.
      if (words.find("uthentication failed") != std::string::npos) return refused_by_server(codes::kAuthenticationFailed, std::move(words));
      return {core::unavailable("MongoDB can't be reached", std::move(words)), 0, true};
    case MONGOC_ERROR_STREAM:
      if (code == MONGOC_ERROR_STREAM_CONNECT || code == MONGOC_ERROR_STREAM_NAME_RESOLUTION || code == MONGOC_ERROR_STREAM_NOT_ESTABLISHED)
        return {core::unavailable("MongoDB can't be reached", std::move(words)), 0, true};
      return {maybe_sent(core::unavailable("the connection to MongoDB broke, it may have been stored or not", std::move(words))), 0, false};
    case MONGOC_ERROR_CLIENT:
      if (code == MONGOC_ERROR_CLIENT_AUTHENTICATE) return refused_by_server(codes::kAuthenticationFailed, std::move(words));
      return {core::unavailable("MongoDB can't be used", std::move(words)), 0, true};
    case MONGOC_ERROR_SASL:
    case MONGOC_ERROR_SCRAM: return refused_by_server(codes::kAuthenticationFailed, std::move(words));
    case MONGOC_ERROR_PROTOCOL:
      if (code == MONGOC_ERROR_PROTOCOL_BAD_WIRE_VERSION) return {core::unavailable("MongoDB's version is not supported", std::move(words)), 0, true};
      return {maybe_sent(core::unavailable("MongoDB's answer was not understood", std::move(words))), 0, true};
    case MONGOC_ERROR_BSON: return {core::internal("internal error", std::move(words)), 0, false};
    case MONGOC_ERROR_COMMAND:
      if (code == MONGOC_ERROR_COMMAND_INVALID_ARG) return {core::internal("internal error", std::move(words)), 0, false};
      return refused_by_server(code, std::move(words));
    case MONGOC_ERROR_WRITE_CONCERN:
      return {maybe_sent(core::unavailable("MongoDB did not confirm in time that its majority has it", std::move(words))), code, false};
    default: return refused_by_server(code, std::move(words));
  }
}

/// What the server said to one document of many.
core::Error refused_document(int code, const std::string& said) {
  std::string words = "MongoDB says " + std::to_string(code) + ": " + said;
  switch (code) {
    case codes::kTooLarge:
    case codes::kKeyTooLong: return core::invalid_argument("the entry is larger than MongoDB takes", std::move(words));
    case codes::kValidation: return core::invalid_argument("the entry does not pass the validation of MongoDB's collection", std::move(words));
    case codes::kBadValue:
    case codes::kInvalidBson: return core::invalid_argument("MongoDB does not take this entry", std::move(words));
    default: return refused_by_server(code, said).error;
  }
}

core::Result<Uri> parse(const std::string& text) {
  start_driver();
  Uri uri(mongoc_uri_new_with_error(text.c_str(), nullptr));
  if (!uri) return core::invalid_argument("must be a MongoDB URI: mongodb://user:password@host:port/?option=value, with %-escapes in user and password");
  return uri;
}

void set_unless_given(mongoc_uri_t* uri, const char* option, std::chrono::milliseconds value) {
  if (!mongoc_uri_has_option(uri, option)) mongoc_uri_set_option_as_int32(uri, option, static_cast<std::int32_t>(value.count()));
}

}  // namespace

core::Result<void> check_uri(const std::string& uri) {
  FLEXI_TRY(auto parsed, parse(uri));
  return core::ok();
}

struct Server::Impl {
  const MongoOptions& options;
  Uri uri, probe_uri;
  std::unique_ptr<mongoc_client_pool_t, Destroy<mongoc_client_pool_destroy>> pool;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

core::Result<std::unique_ptr<Server>> Server::make(const MongoOptions& options) {
  FLEXI_TRY(auto uri, parse(options.uri));
  set_unless_given(uri.get(), MONGOC_URI_CONNECTTIMEOUTMS, options.connect_timeout);
  set_unless_given(uri.get(), MONGOC_URI_SERVERSELECTIONTIMEOUTMS, options.select_timeout);
  if (!mongoc_uri_has_option(uri.get(), MONGOC_URI_APPNAME)) mongoc_uri_set_appname(uri.get(), "flexiconnect");
  constexpr std::int64_t kUpkeep = 2;
  mongoc_uri_set_option_as_int32(uri.get(), MONGOC_URI_MAXPOOLSIZE, static_cast<std::int32_t>(options.write_connections + options.read_connections + kUpkeep));
  Uri probe(mongoc_uri_copy(uri.get()));
  mongoc_uri_set_option_as_int32(probe.get(), MONGOC_URI_SOCKETTIMEOUTMS, static_cast<std::int32_t>(options.connect_timeout.count()));
  set_unless_given(uri.get(), MONGOC_URI_SOCKETTIMEOUTMS, options.socket_timeout);
  const bool named_by_dns = mongoc_uri_get_srv_hostname(uri.get()) != nullptr;
  std::unique_ptr<Server> server(new Server(std::make_unique<Impl>(Impl{options, std::move(uri), std::move(probe), nullptr})));
  if (!named_by_dns && !server->resolve())
    return core::invalid_argument("MongoDB's URI asks for what can't be done, such as files for TLS that can't be read");
  return server;
}

core::Result<void> Server::resolve() {
  if (impl_->pool) return core::ok();
  bson_error_t error{};
  impl_->pool.reset(mongoc_client_pool_new_with_error(impl_->uri.get(), &error));
  if (!impl_->pool) return core::unavailable("MongoDB's name can't be resolved", error.message);
  mongoc_client_pool_set_error_api(impl_->pool.get(), MONGOC_ERROR_API_VERSION_2);
  return core::ok();
}

Session Server::session() {
  auto* pool = impl_->pool.get();
  return Session(mongoc_client_pool_pop(pool), [pool](mongoc_client_t* client) { mongoc_client_pool_push(pool, client); }, impl_->options);
}

Session Server::probe() {
  auto* client = mongoc_client_new_from_uri_with_error(impl_->probe_uri.get(), nullptr);
  if (client) mongoc_client_set_error_api(client, MONGOC_ERROR_API_VERSION_2);
  return Session(client, [](mongoc_client_t* mine) { mongoc_client_destroy(mine); }, impl_->options);
}

Session::Session(Session&& other) noexcept
    : client_(std::exchange(other.client_, nullptr)), give_back_(std::move(other.give_back_)), options_(other.options_), last_(std::move(other.last_)) {}

Session::~Session() {
  if (client_) give_back_(client_);
}

core::Error Session::failed(Failure failure) {
  last_ = std::move(failure);
  return last_.error;
}

namespace {

Collection collection_of(mongoc_client_t* client, const MongoOptions& options, const std::string& name) {
  Collection collection(mongoc_client_get_collection(client, options.database.c_str(), name.c_str()));
  WriteConcern concern(mongoc_write_concern_new());
  mongoc_write_concern_set_wmajority(concern.get(), static_cast<std::int32_t>(options.socket_timeout.count() * 9 / 10));
  mongoc_write_concern_set_journal(concern.get(), true);
  mongoc_collection_set_write_concern(collection.get(), concern.get());
  return collection;
}

bool is_empty_list(Fields reply, const char* key) {
  bool empty = true;
  reply.for_each(key, [&](const char*, Fields) { empty = false; });
  return empty;
}

}  // namespace

Inserted Session::insert(const std::string& collection, const std::vector<Bson>& documents) {
  std::vector<const bson_t*> pointers(documents.size());
  std::transform(documents.begin(), documents.end(), pointers.begin(), raw);
  Bson options;
  options.boolean("ordered", false).boolean("validate", false);
  Reply answer;
  bson_error_t error{};
  const bool done = mongoc_collection_insert_many(collection_of(client_, *options_, collection).get(), pointers.data(), pointers.size(), raw(options), &answer.bson, &error);
  Inserted result;
  if (done) return result;
  const Fields reply(&answer.bson);
  reply.for_each("writeErrors", [&](const char*, Fields refused) {
    const auto index = static_cast<std::size_t>(refused.integer("index").value_or(0));
    const auto code = static_cast<int>(refused.integer("code").value_or(0));
    if (index < documents.size()) result.refused.push_back({index, is_duplicate(code), refused_document(code, refused.shown("errmsg"))});
  });
  const bool concern_failed = !is_empty_list(reply, "writeConcernErrors");
  const bool beside_documents = error.domain != MONGOC_ERROR_SERVER && error.domain != MONGOC_ERROR_COLLECTION;
  if (concern_failed) {
    result.failure = Failure{maybe_sent(core::unavailable("MongoDB did not confirm in time that its majority has it", error.message)), static_cast<int>(error.code), false};
  } else if (result.refused.empty() || beside_documents) {
    result.failure = failure_of(error);
  }
  if (result.failure) last_ = *result.failure;
  return result;
}

template <class CursorPointer>
core::Result<void> Session::walk(CursorPointer* cursor, const std::function<Next(Fields)>& each) {
  const bson_t* document = nullptr;
  while (mongoc_cursor_next(cursor, &document))
    if (each(Fields(document)) == Next::enough) return core::ok();
  bson_error_t error{};
  if (mongoc_cursor_error(cursor, &error)) {
    auto failure = failure_of(error);
    failure.error.sent = core::Sent::no;  // a read may be done again
    return failed(std::move(failure));
  }
  return core::ok();
}

core::Result<void> Session::find(const std::string& collection, const Bson& filter, const FindOptions& how, const std::function<Next(Fields)>& each) {
  Bson options;
  if (how.projection.bytes() > Bson().bytes()) options.document("projection", how.projection);
  if (how.sort.bytes() > Bson().bytes()) options.document("sort", how.sort);
  if (how.limit > 0) options.integer("limit", how.limit);
  if (how.time.count() > 0) options.integer("maxTimeMS", how.time.count());
  const ReadPrefs primary(how.anywhere ? nullptr : mongoc_read_prefs_new(MONGOC_READ_PRIMARY));
  auto from = collection_of(client_, *options_, collection);
  const Cursor cursor(mongoc_collection_find_with_opts(from.get(), raw(filter), raw(options), primary.get()));
  return walk(cursor.get(), each);
}

core::Result<void> Session::aggregate(const std::string& collection, const std::vector<Bson>& stages, const std::function<Next(Fields)>& each) {
  Bson pipeline;
  pipeline.array("pipeline", stages);
  const ReadPrefs primary(mongoc_read_prefs_new(MONGOC_READ_PRIMARY));
  auto from = collection_of(client_, *options_, collection);
  const Cursor cursor(mongoc_collection_aggregate(from.get(), MONGOC_QUERY_NONE, raw(pipeline), nullptr, primary.get()));
  return walk(cursor.get(), each);
}

core::Result<bool> Session::update(const std::string& collection, const Bson& filter, const Bson& change) {
  Reply answer;
  bson_error_t error{};
  const bool done = mongoc_collection_update_one(collection_of(client_, *options_, collection).get(), raw(filter), raw(change), nullptr, &answer.bson, &error);
  if (!done) return failed(failure_of(error));
  return Fields(&answer.bson).integer("matchedCount").value_or(0) > 0;
}

core::Result<std::int64_t> Session::remove(const std::string& collection, const Bson& filter) {
  Reply answer;
  bson_error_t error{};
  const bool done = mongoc_collection_delete_many(collection_of(client_, *options_, collection).get(), raw(filter), nullptr, &answer.bson, &error);
  if (!done) return failed(failure_of(error));
  return Fields(&answer.bson).integer("deletedCount").value_or(0);
}

core::Result<void> Session::command(const Bson& command, const std::function<void(Fields)>& reply) {
  if (!client_) return failed({core::unavailable("MongoDB can't be used"), 0, true});
  Reply answer;
  bson_error_t error{};
  const bool done = mongoc_client_command_simple(client_, options_->database.c_str(), raw(command), nullptr, &answer.bson, &error);
  if (!done) return failed(failure_of(error));
  if (reply) reply(Fields(&answer.bson));
  return core::ok();
}

core::Result<void> Session::ping() {
  Bson ping;
  ping.small_integer("ping", 1);
  return command(ping);
}

}  // namespace flexi::stores::mongo
