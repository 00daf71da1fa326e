// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/options.hpp"

#include "stores/mongo/server.hpp"

namespace flexi::stores::mongo {

namespace {

using std::chrono::milliseconds;

void check(runtime::Problems& problems, const char* path, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) problems.push_back({path, "must be " + std::to_string(least) + " to " + std::to_string(most)});
}
void check(runtime::Problems& problems, const char* path, milliseconds value, milliseconds least, milliseconds most) {
  if (value < least || value > most)
    problems.push_back({path, "must be " + std::to_string(least.count()) + "ms to " + std::to_string(most.count()) + "ms"});
}

/// Source: https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
bool is_name(const std::string& name, std::size_t longest) {
  return !name.empty() && name.size() <= longest && name.find_first_of(std::string("/\\. \"$*<>:|?\0", 13)) == std::string::npos && !name.starts_with("system");
}

}  // namespace

void MongoOptions::describe(runtime::OptionVisitor& v) {
  v.field("uri", uri, "MongoDB 4.2 or later: mongodb://user:password@host:port, replica sets and TLS as MongoDB's URIs say them; empty: logs stay in the embedded store",
          {.secret = runtime::OptionVisitor::Secret::yes, .also_env = "MONGO_URI"});
  v.field("database", database, "Database of the log entries; the one in the URI is where the password is checked");
  v.field("collection", collection, "Collection of the log entries; <collection>_ledger and <collection>_repeats stand beside it");
  v.field("write_connections", write_connections, "Bulk inserts under way at once, a thread and a connection each");
  v.field("read_connections", read_connections, "Lists, searches and look-ups at once, a thread and a connection each");
  v.field("batch_entries", batch_entries, "Entries of one bulk insert at most; those that come while one runs make up the next");
  v.field("queue_limit", queue_limit, "Entries that may wait for a bulk insert; one more is refused with 429");
  v.field("queue_bytes", queue_bytes, "Bytes of the same, and of those under way, likewise");
  v.field("read_queue_limit", read_queue_limit, "Reads that may wait; one more is refused with 429");
  v.field("connect_timeout", connect_timeout, "For one address to be reached; also for MongoDB to answer whether it is there");
  v.field("select_timeout", select_timeout, "How long a server that takes writes is looked for, as while a replica set elects one");
  v.field("socket_timeout", socket_timeout, "Without an answer for so long the connection is given up; also what a search may take");
  v.field("check_interval", check_interval, "How often MongoDB is asked whether it is there");
  v.field("retention", retention, "Log entries older than this are removed, whoever wrote them; 0 keeps them all");
  v.field("text_index", text_index, "Make a text index for searches where the server can; false saves its cost for each insert");
}

runtime::Problems MongoOptions::validate() const {
  runtime::Problems problems;
  if (!uri.empty())
    if (auto usable = check_uri(uri); !usable) problems.push_back({"uri", usable.error().message});
  if (!is_name(database, 63)) problems.push_back({"database", "must be 1 to 63 characters without / \\ . \" $ * < > : | ? and spaces"});
  if (!is_name(collection, 100)) problems.push_back({"collection", "must be 1 to 100 characters without / \\ . \" $ * < > : | ? and spaces"});
  check(problems, "write_connections", write_connections, 1, 100);
  check(problems, "read_connections", read_connections, 1, 100);
  check(problems, "batch_entries", batch_entries, 1, 10'000);
  check(problems, "queue_limit", queue_limit, 1, 10'000'000);
  check(problems, "queue_bytes", queue_bytes, 1 << 20, std::int64_t{1} << 40);
  check(problems, "read_queue_limit", read_queue_limit, 1, 1'000'000);
  check(problems, "connect_timeout", connect_timeout, milliseconds(10), milliseconds(60'000));
  check(problems, "select_timeout", select_timeout, milliseconds(10), milliseconds(60'000));
  check(problems, "socket_timeout", socket_timeout, milliseconds(100), milliseconds(120'000));
  check(problems, "check_interval", check_interval, milliseconds(10), milliseconds(60'000));
  if (retention.count() < 0) problems.push_back({"retention", "must be 0 (off) or a positive time"});
  return problems;
}

}  // namespace flexi::stores::mongo
