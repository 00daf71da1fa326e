// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/options.hpp"

#include <gtest/gtest.h>

#include "stores/mongo/server.hpp"

namespace flexi::stores::mongo {
namespace {

TEST(Options, TheDefaultsAreValidAndNameNoServer) {
  MongoOptions options;
  EXPECT_TRUE(options.validate().empty());
  EXPECT_FALSE(options.configured());
}

TEST(Options, TheUriIsMongoDBs) {
  for (auto uri : {"mongodb://admin:password@mongo:27017", "mongodb://mongo", "mongodb://a,b:27018,c/?replicaSet=rs0&tls=true", "mongodb://u:p%40ss@h/admin?authSource=x", "mongodb+srv://u:p@logs.mongo.example/"})
    EXPECT_TRUE(check_uri(uri)) << uri;
}

TEST(Options, AUriThatIsNoneIsRefusedWithoutItsPassword) {
  for (auto uri : {"mongo:27017", "http://user:s3cret@mongo", "mongodb://user:s3cret@", "mongodb://user:s3cret/with@slash@mongo", "mongodb://user:s3cret@mongo:99999999"}) {
    MongoOptions options;
    options.uri = uri;
    const auto problems = options.validate();
    ASSERT_EQ(problems.size(), 1u) << uri;
    EXPECT_EQ(problems[0].path, "uri");
    EXPECT_EQ(problems[0].message.find("s3cret"), std::string::npos) << problems[0].message;
  }
}

TEST(Options, EveryProblemIsNamed) {
  MongoOptions options;
  options.database = "a.b", options.collection = "", options.write_connections = 0, options.read_connections = 101, options.batch_entries = 0, options.queue_limit = 0;
  options.queue_bytes = 1, options.read_queue_limit = 0, options.connect_timeout = options.select_timeout = options.socket_timeout = options.check_interval = {};
  options.retention = std::chrono::milliseconds(-1);
  EXPECT_EQ(options.validate().size(), 13u);
}

}  // namespace
}  // namespace flexi::stores::mongo
