// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/tokens.hpp"

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace flexi::services::authentication {
namespace {

const std::string kSecret(32, 'k');

std::string pem(EVP_PKEY* key, bool is_private) {
  BIO* out = BIO_new(BIO_s_mem());
  if (is_private) PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
  else PEM_write_bio_PUBKEY(out, key);
  char* data = nullptr;
  const auto size = BIO_get_mem_data(out, &data);
  std::string text(data, static_cast<std::size_t>(size));
  BIO_free(out);
  return text;
}

struct Pair {
  std::string secret, open;
  explicit Pair(EVP_PKEY* key) : secret(pem(key, true)), open(pem(key, false)) { EVP_PKEY_free(key); }
};

std::string base64url(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  out.resize(static_cast<std::size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()))));
  while (out.ends_with('=')) out.pop_back();
  for (auto& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return out;
}

/// A token that anybody can make who knows `secret`.
std::string hs256(std::string_view header, std::string_view claims, std::string_view secret) {
  auto text = base64url(header) + "." + base64url(claims);
  unsigned char digest[32];
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &size);
  return text + "." + base64url({reinterpret_cast<const char*>(digest), size});
}

struct TokensTest : testing::Test {
  core::Timestamp now = std::chrono::system_clock::now();
  TokenOptions options{.lifetime = std::chrono::minutes(10)};
  core::User ann{.id = 7, .email = "ann@example.com"};

  std::unique_ptr<Tokens> of(const std::string& key) { return Tokens::make(key, options).value(); }
  std::string claims(std::string more = "", std::string issuer = "flexiconnect") {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
    return R"({"iss":")" + issuer + R"(","sub":"7","exp":)" + std::to_string(seconds + 60) + more + "}";
  }
  static bool refuses(const Tokens& tokens, const std::string& token, core::Timestamp at) {
    auto checked = tokens.check(token, at);
    return !checked && checked.error().kind == core::ErrorKind::unauthenticated && checked.error().message == tokens.check("", at).error().message;
  }
};

TEST_F(TokensTest, SayWhoseTheyAreUntilTheyExpire) {
  const Pair ec(EVP_EC_gen("P-256")), rsa(EVP_RSA_gen(2048));
  const std::pair<std::string, std::string> keys[] = {{kSecret, "HS256"}, {ec.secret, "ES256"}, {rsa.secret, "RS256"}};
  for (auto& [key, algorithm] : keys) {
    auto tokens = of(key);
    auto token = tokens->issue(ann, now);
    ASSERT_TRUE(token) << algorithm;
    EXPECT_NE(token.value().find(base64url(R"({"alg":")" + algorithm + R"(","typ":"JWT"})")), std::string::npos) << token.value();
    EXPECT_EQ(tokens->check(token.value(), now).value(), 7) << algorithm;
    EXPECT_EQ(tokens->check(token.value(), now + std::chrono::minutes(9)).value(), 7);
    EXPECT_TRUE(refuses(*tokens, token.value(), now + std::chrono::minutes(10))) << "expired";
  }
}

TEST_F(TokensTest, AreRefusedWhereAnythingWasChanged) {
  const Pair ec(EVP_EC_gen("P-256"));
  for (auto& key : {kSecret, ec.secret}) {
    auto tokens = of(key);
    const auto token = tokens->issue(ann, now).value();
    for (std::size_t i = 0; i < token.size(); ++i) {
      auto changed = token;
      changed[i] = changed[i] == 'A' ? 'B' : 'A';
      // The last digits of a base64 text may hold bits that mean nothing.
      if (i + 1 == token.size() || token[i + 1] == '.') continue;
      EXPECT_TRUE(refuses(*tokens, changed, now)) << i;
    }
    for (auto& broken : {std::string(), std::string("."), std::string(".."), token + "x.y", token.substr(0, token.rfind('.')), token.substr(0, token.rfind('.') + 1),
                         token + std::string(1, '\0'), std::string(100'000, 'A'), std::string("eyJ.eyJ.eyJ")})
      EXPECT_TRUE(refuses(*tokens, broken, now)) << broken.substr(0, 100);
  }
}

TEST_F(TokensTest, OfAnotherKeyOrIssuerAreRefused) {
  auto tokens = of(kSecret);
  EXPECT_EQ(tokens->check(hs256(R"({"alg":"HS256"})", claims(), kSecret), now).value(), 7) << "the test makes good ones";
  EXPECT_TRUE(refuses(*tokens, of(std::string(32, 'x'))->issue(ann, now).value(), now));
  EXPECT_TRUE(refuses(*tokens, hs256(R"({"alg":"HS256"})", claims("", "another"), kSecret), now));
  EXPECT_TRUE(refuses(*tokens, hs256(R"({"alg":"HS256"})", R"({"iss":"flexiconnect","sub":"7"})", kSecret), now)) << "it never expires";
  for (auto sub : {R"("sub":"")", R"("sub":"x")", R"("sub":"7x")", R"("sub":7)", R"("sub":"99999999999999999999")"}) {
    auto text = claims();
    text.replace(text.find(R"("sub":"7")"), 9, sub);
    EXPECT_TRUE(refuses(*tokens, hs256(R"({"alg":"HS256"})", text, kSecret), now)) << sub;
  }
}

TEST_F(TokensTest, TheKeySaysTheAlgorithmNotTheToken) {
  const Pair ec(EVP_EC_gen("P-256")), rsa(EVP_RSA_gen(2048));
  for (auto& key : {kSecret, ec.secret, rsa.secret})
    for (auto header : {R"({"alg":"none"})", R"({"alg":"None"})", R"({"typ":"JWT"})", R"({"alg":"HS512"})"}) {
      auto tokens = of(key);
      EXPECT_TRUE(refuses(*tokens, base64url(header) + "." + base64url(claims()) + ".", now)) << header;
      EXPECT_TRUE(refuses(*tokens, hs256(header, claims(), key), now)) << header;
    }
  // The public key is no secret: who has it must not sign with it as if it were one.
  for (auto* pair : {&ec, &rsa}) EXPECT_TRUE(refuses(*of(pair->secret), hs256(R"({"alg":"HS256","typ":"JWT"})", claims(), pair->open), now));
}

TEST_F(TokensTest, AWeakOrWrongKeyIsRefusedWithoutBeingRepeated) {
  const Pair small(EVP_RSA_gen(1024)), other(EVP_EC_gen("P-384")), ec(EVP_EC_gen("P-256"));
  for (auto& key : {std::string(31, 'k'), std::string(), std::string(31, 'k') + "\n", small.secret, other.secret, ec.open, std::string("-----BEGIN PRIVATE KEY-----\nkkk\n")}) {
    auto tokens = Tokens::make(key, options);
    ASSERT_FALSE(tokens);
    EXPECT_EQ(tokens.error().message.find("kkk"), std::string::npos);
  }
}

TEST_F(TokensTest, AKeyIsMadeOnceAndForItsOwnerAlone) {
  const auto file = std::filesystem::temp_directory_path() / ("flexi-token-key-" + std::to_string(::getpid()));
  std::filesystem::remove(file);
  EXPECT_FALSE(Tokens::open(file.string(), options));
  ASSERT_TRUE(ensure_token_key(file.string()));
  struct stat status {};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  const auto token = Tokens::open(file.string(), options).value()->issue(ann, now).value();
  ASSERT_TRUE(ensure_token_key(file.string()));
  EXPECT_EQ(Tokens::open(file.string(), options).value()->check(token, now).value(), 7) << "the same key after a restart";
  std::filesystem::remove(file);
  EXPECT_FALSE(ensure_token_key("/nonexistent/token.key"));
}

}  // namespace
}  // namespace flexi::services::authentication
