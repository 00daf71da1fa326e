// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "stores/mongo/bson.hpp"
#include "stores/mongo/options.hpp"

struct _mongoc_client_t;

namespace flexi::stores::mongo {

/// @return invalid_argument in words of our own: the driver's may repeat the password
core::Result<void> check_uri(const std::string& uri);

/// What went wrong in words for the caller, with what only the store needs to know.
struct Failure {
  core::Error error;
  int code = 0;                ///< the server's, as in https://www.mongodb.com/docs/manual/reference/error-codes/; 0: it said nothing
  bool unreachable = false;    ///< no server could be used: whoever comes next would wait in vain
};

/// Of one bulk insert: which documents were not stored, and why. The others are, durably.
struct Inserted {
  struct Refused {
    std::size_t index;
    bool duplicate;            ///< of a unique key
    core::Error error;
  };
  std::vector<Refused> refused;
  std::optional<Failure> failure;  ///< of all that are not in `refused`: they are stored or not
};

struct FindOptions {
  Bson projection{};
  Bson sort{};
  std::int64_t limit = 0;                    ///< 0: none
  std::chrono::milliseconds time{0};         ///< what the server may spend on it; 0: no limit
  bool anywhere = false;                     ///< as the URI's read preference says, else by the primary
};

enum class Next { more, enough };

/// One connection's worth of the driver, with its errors as ours.
/// Lifetime/threads: one thread at a time; blocks, bounded by the options' time-outs
class Session {
 public:
  Session(Session&&) noexcept;
  ~Session();

  /// Unordered, acknowledged by the majority.
  Inserted insert(const std::string& collection, const std::vector<Bson>& documents);
  core::Result<void> find(const std::string& collection, const Bson& filter, const FindOptions& options, const std::function<Next(Fields)>& each);
  core::Result<void> aggregate(const std::string& collection, const std::vector<Bson>& stages, const std::function<Next(Fields)>& each);
  /// @return whether a document was there to be changed
  core::Result<bool> update(const std::string& collection, const Bson& filter, const Bson& change);
  core::Result<std::int64_t> remove(const std::string& collection, const Bson& filter);
  core::Result<void> command(const Bson& command, const std::function<void(Fields)>& reply = {});
  core::Result<void> ping();
  /// The server's code of the last failure; 0: it said nothing.
  int code() const { return last_.code; }
  bool unreachable() const { return last_.unreachable; }

 private:
  friend class Server;
  using Give = std::function<void(_mongoc_client_t*)>;
  Session(_mongoc_client_t* client, Give give_back, const MongoOptions& options) : client_(client), give_back_(std::move(give_back)), options_(&options) {}
  core::Error failed(Failure failure);
  template <class Cursor>
  core::Result<void> walk(Cursor* cursor, const std::function<Next(Fields)>& each);

  _mongoc_client_t* client_;
  Give give_back_;
  const MongoOptions* options_;
  Failure last_;
};

/// The driver's pool of connections.
/// Lifetime/threads: any thread; outlives its sessions
class Server {
 public:
  /// Connects to nothing yet.
  /// @param options outlive it
  /// @return invalid_argument for a URI that is none
  static core::Result<std::unique_ptr<Server>> make(const MongoOptions& options);
  ~Server();

  /// What could not be done by make(): the names that a mongodb+srv:// URI stands for.
  core::Result<void> resolve();
  /// Behind resolve(). There is one for every thread of the store's: this does not wait.
  Session session();
  /// One beside the pool whose answers are given up after connect_timeout, to ask whether the server is there.
  Session probe();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexi::stores::mongo
