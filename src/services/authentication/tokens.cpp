// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/tokens.hpp"

#include <fcntl.h>
#include <jwt.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "core/random.hpp"

namespace flexi::services::authentication {

namespace {

constexpr std::size_t kMinSecretBytes = 32, kMaxKeyBytes = 64 * 1024;
constexpr int kMinRsaBits = 2048;

template <auto Free>
struct Deleter {
  void operator()(auto* thing) const { Free(thing); }
};
using Jwt = std::unique_ptr<jwt_t, Deleter<jwt_free>>;
using Text = std::unique_ptr<char, Deleter<std::free>>;
using Bio = std::unique_ptr<BIO, Deleter<BIO_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;

int no_passphrase(char*, int, int, void*) { return 0; }

const unsigned char* bytes_of(const std::string& text) { return reinterpret_cast<const unsigned char*>(text.data()); }

/// One text for all: a stranger learns nothing from it.
core::Error refused(std::string why) { return core::unauthenticated("the token is not valid, or has expired: log in again", std::move(why)); }

std::int64_t seconds(core::Timestamp time) { return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count(); }

bool is_p256(const EVP_PKEY* key) {
  char name[32] = "";
  return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC && EVP_PKEY_get_group_name(key, name, sizeof name, nullptr) == 1 && std::string_view(name) == "prime256v1";
}

std::string public_pem(EVP_PKEY* key) {
  const Bio out(BIO_new(BIO_s_mem()));
  if (!out || PEM_write_bio_PUBKEY(out.get(), key) != 1) return {};
  char* data = nullptr;
  const auto size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

}  // namespace

struct Tokens::Impl {
  TokenOptions options;
  jwt_alg_t algorithm = JWT_ALG_HS256;
  std::string signing, checking;
  ~Impl() { ::explicit_bzero(signing.data(), signing.size()); }
};

Tokens::Tokens(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokens::~Tokens() = default;

core::Result<std::unique_ptr<Tokens>> Tokens::make(std::string_view key, TokenOptions options) {
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  if (key.find("-----BEGIN") == key.npos) {
    while (!key.empty() && (key.back() == '\n' || key.back() == '\r')) key.remove_suffix(1);
    if (key.size() < kMinSecretBytes) return core::invalid_argument("the token key must be a PEM private key, or a secret of 32 bytes or more");
    impl->signing = impl->checking = key;
    return std::unique_ptr<Tokens>(new Tokens(std::move(impl)));
  }
  const Bio in(BIO_new_mem_buf(key.data(), static_cast<int>(key.size())));
  const Key parsed(in ? PEM_read_bio_PrivateKey(in.get(), nullptr, no_passphrase, nullptr) : nullptr);
  if (!parsed) return core::invalid_argument("the token key is no PEM private key that can be read without a passphrase");
  if (is_p256(parsed.get())) impl->algorithm = JWT_ALG_ES256;
  else if (EVP_PKEY_get_base_id(parsed.get()) == EVP_PKEY_RSA && EVP_PKEY_get_bits(parsed.get()) >= kMinRsaBits) impl->algorithm = JWT_ALG_RS256;
  else return core::invalid_argument("the token key must be a P-256 key (ES256), an RSA key of 2048 bits or more (RS256), or a secret (HS256)");
  impl->signing = key;
  impl->checking = public_pem(parsed.get());
  if (impl->checking.empty()) return core::internal("internal error", "the token key's public half can't be written");
  return std::unique_ptr<Tokens>(new Tokens(std::move(impl)));
}

core::Result<std::unique_ptr<Tokens>> Tokens::open(const std::string& key_file, TokenOptions options) {
  std::ifstream in(key_file, std::ios::binary);
  if (!in) return core::unavailable("can't read the token key " + key_file + ": " + std::strerror(errno));
  std::string key(kMaxKeyBytes + 1, '\0');
  in.read(key.data(), static_cast<std::streamsize>(key.size()));
  key.resize(static_cast<std::size_t>(in.gcount()));
  if (key.size() > kMaxKeyBytes) return core::invalid_argument(key_file + " is too large for a token key");
  auto tokens = make(key, std::move(options));
  ::explicit_bzero(key.data(), key.size());
  if (!tokens) tokens.error().message = key_file + ": " + tokens.error().message;
  return tokens;
}

core::Result<std::string> Tokens::issue(const core::User& user, core::Timestamp now) const {
  jwt_t* made = nullptr;
  if (::jwt_new(&made) != 0) return core::internal("internal error", "jwt_new failed");
  const Jwt jwt(made);
  const auto lifetime = std::chrono::duration_cast<std::chrono::seconds>(impl_->options.lifetime).count();
  const bool filled = ::jwt_set_alg(made, impl_->algorithm, bytes_of(impl_->signing), static_cast<int>(impl_->signing.size())) == 0 &&
                      ::jwt_add_grant(made, "iss", impl_->options.issuer.c_str()) == 0 &&
                      ::jwt_add_grant(made, "sub", std::to_string(user.id).c_str()) == 0 && ::jwt_add_grant(made, "email", user.email.c_str()) == 0 &&
                      ::jwt_add_grant_int(made, "iat", seconds(now)) == 0 && ::jwt_add_grant_int(made, "exp", seconds(now) + lifetime) == 0;
  const Text text(filled ? ::jwt_encode_str(made) : nullptr);
  if (!text) return core::internal("internal error", "a token can't be signed");
  return std::string(text.get());
}

core::Result<std::int64_t> Tokens::check(std::string_view token, core::Timestamp now) const {
  if (token.empty() || token.size() > kMaxBytes || token.find('\0') != token.npos) return refused("no token");
  jwt_t* read = nullptr;
  const int code = ::jwt_decode(&read, std::string(token).c_str(), bytes_of(impl_->checking), static_cast<int>(impl_->checking.size()));
  const Jwt jwt(read);
  if (code != 0 || !jwt) return refused("not signed with this key");
  // The library believes the header: what is signed with our public key as if it were a secret is refused here.
  if (::jwt_get_alg(read) != impl_->algorithm) return refused("signed by another algorithm");
  const char* issuer = ::jwt_get_grant(read, "iss");
  if (!issuer || impl_->options.issuer != issuer) return refused("of another issuer");
  errno = 0;
  const auto expires = ::jwt_get_grant_int(read, "exp");
  if (errno != 0 || expires <= seconds(now)) return refused("expired");
  const char* subject = ::jwt_get_grant(read, "sub");
  const std::string_view digits = subject ? subject : "";
  std::int64_t id = 0;
  const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  if (digits.empty() || ec != std::errc() || end != digits.data() + digits.size()) return refused("it names no user");
  return id;
}

core::Result<void> ensure_token_key(const std::string& file) {
  std::array<std::uint8_t, 32> random;
  core::fill_random(random);
  std::string text;
  for (auto byte : random)
    for (auto half : {byte >> 4, byte & 15}) text += "0123456789abcdef"[half];
  text += '\n';
  // Under a name of its own first: a start that is cut short leaves no half of a key behind.
  const auto partial = file + ".new";
  ::unlink(partial.c_str());
  if (::access(file.c_str(), F_OK) == 0) return core::ok();
  const int fd = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool written = fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  const int code = errno;
  if (fd >= 0) ::close(fd);
  if (!written || ::rename(partial.c_str(), file.c_str()) != 0) return core::unavailable("can't write the token key " + file + ": " + std::strerror(written ? errno : code));
  return core::ok();
}

}  // namespace flexi::services::authentication
