// SPDX-License-Identifier: Apache-2.0
#include "runtime/postgres/options.hpp"

#include <gtest/gtest.h>

#include "core/timestamp.hpp"
#include "runtime/config.hpp"
#include "runtime/postgres/conninfo.hpp"
#include "runtime/postgres/errors.hpp"
#include "runtime/postgres/rows.hpp"

namespace flexi::runtime::postgres {
namespace {

TEST(PostgresOptions, TheContractsKeywordStringAndAUrlSayTheSame) {
  for (auto dsn : {"host=postgres port=5432 user=postgres password=password dbname=users sslmode=disable timezone=UTC connect_timeout=5",
                   "host=postgres port=5432 user=postgres password=password dbname=users sslmode=disable connect_timeout=5",
                   "postgresql://postgres:password@postgres:5432/users?sslmode=disable&connect_timeout=5", "postgres://postgres:password@postgres:5432/users?sslmode=disable",
                   "postgres://postgres:password@postgres:5432/users?TimeZone=UTC&sslmode=disable", "postgres://postgres:password@postgres:5432/users?sslmode=disable&timezone=UTC",
                   "host = postgres user='postgres' password=password dbname = 'users' port=5432 TimeZone = 'a\\'b' sslmode=disable"}) {
    auto info = Conninfo::parse(dsn);
    ASSERT_TRUE(info) << dsn;
    EXPECT_EQ(info.value().where(), "postgres:5432/users");
    EXPECT_EQ(info.value().values.at("password"), "password");
    EXPECT_EQ(info.value().values.at("sslmode"), "disable");
    ASSERT_EQ(info.value().hosts.size(), 1u);
    EXPECT_TRUE(info.value().hosts[0].wants_resolving());
  }
}

TEST(PostgresOptions, SeveralHostsAndAddressesAreTakenApart) {
  auto info = Conninfo::parse("host=a,/run/postgresql,::1,10.0.0.1 port=1,2,3,4 dbname=d target_session_attrs=read-write sslmode=verify-full sslrootcert=/ca.pem").value();
  ASSERT_EQ(info.hosts.size(), 4u);
  EXPECT_TRUE(info.hosts[0].wants_resolving());
  for (int i : {1, 2, 3}) EXPECT_FALSE(info.hosts[i].wants_resolving()) << i;
  EXPECT_EQ(info.hosts[3].port, "4");
  EXPECT_EQ(info.values.at("sslrootcert"), "/ca.pem");
  EXPECT_EQ(Conninfo::parse("host=a,b port=5 dbname=d").value().hosts[1].port, "5");
  EXPECT_FALSE(Conninfo::parse("host=a,b port=1,2,3 dbname=d"));
}

TEST(PostgresOptions, WhatIsWrongIsSaidWithoutRepeatingIt) {
  for (auto dsn : {"host=h password", "host=h secret=hidden", "postgresql://u:hidden@[::1/x", "hidden", "host='hidden"}) {
    PostgresOptions options{.dsn = dsn};
    const auto problems = options.validate();
    ASSERT_EQ(problems.size(), 1u) << dsn;
    EXPECT_EQ(problems[0].path, "dsn");
    EXPECT_EQ(problems[0].message.find("hidden"), std::string::npos) << problems[0].message;
  }
  EXPECT_TRUE(PostgresOptions{}.validate().empty());
  EXPECT_EQ((PostgresOptions{.dsn = "host=h", .connections = 1, .queue_limit = 0, .connect_timeout = {}}).validate().size(), 3u);
}

TEST(PostgresOptions, TheContractsVariableNamesItAndItIsASecret) {
  PostgresOptions options;
  auto describe = [&](OptionVisitor& v) { v.group("postgres", "", options); };
  EXPECT_TRUE(read_config(describe, {.environment = {{"DSN", "host=h dbname=users password=hidden"}}}).empty());
  EXPECT_EQ(options.dsn, "host=h dbname=users password=hidden");
  EXPECT_EQ(print_config(describe).find("hidden"), std::string::npos);
}

TEST(PostgresErrors, SayWhatTheCallerCanDo) {
  using core::ErrorKind;
  for (auto& [state, kind] : std::initializer_list<std::pair<const char*, ErrorKind>>{
           {"", ErrorKind::unavailable},      {"08006", ErrorKind::unavailable},         {"57P01", ErrorKind::unavailable}, {"57P03", ErrorKind::unavailable},
           {"28P01", ErrorKind::unavailable}, {"3D000", ErrorKind::unavailable},         {"53300", ErrorKind::unavailable}, {"53100", ErrorKind::unavailable},
           {"40P01", ErrorKind::unavailable}, {"57014", ErrorKind::deadline_exceeded},   {"23505", ErrorKind::conflict},    {"22001", ErrorKind::invalid_argument},
           {"42P01", ErrorKind::unavailable}, {"42501", ErrorKind::unavailable},         {"25006", ErrorKind::unavailable}, {"22021", ErrorKind::invalid_argument},
           {"42601", ErrorKind::internal},    {"23514", ErrorKind::invalid_argument}}) {
    const auto error = to_error(state, "words of the driver");
    EXPECT_EQ(error.kind, kind) << state;
    EXPECT_EQ(error.message.find("words"), std::string::npos);
    EXPECT_NE(error.detail.find("words of the driver"), std::string::npos);
  }
}

TEST(PostgresErrors, TheStateOfARefusedConnectionIsTheLastInItsWords) {
  EXPECT_EQ(sqlstate_in("connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  28P01: password authentication failed"), "28P01");
  EXPECT_EQ(sqlstate_in("… FATAL:  28000: no entry, SSL on connection to server … FATAL:  53300: sorry, too many clients already"), "53300");
  EXPECT_EQ(sqlstate_in("connection to server at \"127.0.0.1\", port 1 failed: Connection refused"), "");
}

TEST(PostgresValues, TimesArraysAndTextAreWrittenAsPostgresReadsThem) {
  EXPECT_EQ(time(core::from_unix_micros(1'700'000'000'123'456)).bytes, "2023-11-14T22:13:20.123456Z");
  EXPECT_EQ(text_array({"a", "b\"c", "d\\e", ""}).bytes, "{\"a\",\"b\\\"c\",\"d\\\\e\",\"\"}");
  for (auto good : {"", "plain", "Zoë 李 🦊", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"}) EXPECT_TRUE(is_text(good)) << good;
  EXPECT_FALSE(is_text(std::string_view("a\0b", 3)));
  for (auto bad : {"\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\x80"}) EXPECT_FALSE(is_text(bad));
}

}  // namespace
}  // namespace flexi::runtime::postgres
