// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/argon2id.hpp"

#include <argon2.h>

#include <array>
#include <charconv>

#include "core/random.hpp"

namespace flexi::services::authentication {

namespace {

constexpr std::size_t kSaltBytes = 16, kDigestBytes = 32;
constexpr std::size_t kMinSalt = 8, kMinDigest = 16, kMaxBytes = 64, kMaxTextBytes = 255;
constexpr std::int64_t kMaxWork = 8 * 1024 * 1024;  // KiB that one login may pass over: some seconds
constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void append_base64(std::string& out, std::string_view bytes) {
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (unsigned char byte : bytes) {
    bits = bits << 8 | byte;
    for (held += 8; held >= 6; held -= 6) out += kDigits[bits >> (held - 6) & 63];
  }
  if (held != 0) out += kDigits[bits << (6 - held) & 63];
}

std::optional<std::string> read_base64(std::string_view text) {
  std::string bytes;
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (char c : text) {
    const auto digit = kDigits.find(c);
    if (digit == kDigits.npos) return std::nullopt;
    bits = (bits << 6 | static_cast<std::uint32_t>(digit)) & 0xffff;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>(bits >> held & 0xff);
  }
  // One text for the same bytes: neither a lone digit nor bits that mean nothing.
  if (held >= 6 || (bits & ((1u << held) - 1)) != 0) return std::nullopt;
  return bytes;
}

/// Takes `prefix` off the front.
bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// Takes a decimal number without sign or leading zero off the front.
bool take(std::string_view& text, std::int64_t& number) {
  if (text.empty() || text.front() < '1' || text.front() > '9') return false;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

std::uint8_t* bytes_of(std::string& text) { return reinterpret_cast<std::uint8_t*>(text.data()); }

}  // namespace

bool Argon2Cost::is_bearable() const {
  return lanes >= 1 && lanes <= kMaxArgon2Lanes && iterations >= 1 && iterations <= kMaxArgon2Iterations && memory_kib >= kMinArgon2Kib &&
         memory_kib <= kMaxArgon2Kib && memory_kib >= 8 * lanes && memory_kib * iterations <= kMaxWork;
}

std::string Argon2Hash::to_string() const {
  std::string text = "$argon2id$v=19$m=" + std::to_string(cost.memory_kib) + ",t=" + std::to_string(cost.iterations) + ",p=" + std::to_string(cost.lanes) + "$";
  append_base64(text, salt);
  text += '$';
  append_base64(text, digest);
  return text;
}

std::optional<Argon2Hash> Argon2Hash::parse(std::string_view text) {
  if (text.size() > kMaxTextBytes) return std::nullopt;
  Argon2Hash hash;
  auto& cost = hash.cost;
  if (!take(text, "$argon2id$v=19$m=") || !take(text, cost.memory_kib) || !take(text, ",t=") || !take(text, cost.iterations) || !take(text, ",p=") ||
      !take(text, cost.lanes) || !take(text, "$") || !cost.is_bearable())
    return std::nullopt;
  const auto dollar = text.find('$');
  if (dollar == text.npos) return std::nullopt;
  auto salt = read_base64(text.substr(0, dollar)), digest = read_base64(text.substr(dollar + 1));
  if (!salt || !digest || salt->size() < kMinSalt || salt->size() > kMaxBytes || digest->size() < kMinDigest || digest->size() > kMaxBytes) return std::nullopt;
  hash.salt = std::move(*salt);
  hash.digest = std::move(*digest);
  return hash;
}

Argon2Hash Argon2Hash::of_nobody(const Argon2Cost& cost) { return {cost, std::string(kSaltBytes, 's'), std::string(kDigestBytes, '\0')}; }

core::Result<std::string> argon2id(const std::string& password, const std::string& salt, const Argon2Cost& cost, std::size_t digest_bytes) {
  std::string digest(digest_bytes, '\0'), own_password = password, own_salt = salt;  // the library's pointers are not const
  argon2_context context{};
  context.out = bytes_of(digest);
  context.outlen = static_cast<std::uint32_t>(digest.size());
  context.pwd = bytes_of(own_password);
  context.pwdlen = static_cast<std::uint32_t>(own_password.size());
  context.salt = bytes_of(own_salt);
  context.saltlen = static_cast<std::uint32_t>(own_salt.size());
  context.t_cost = static_cast<std::uint32_t>(cost.iterations);
  context.m_cost = static_cast<std::uint32_t>(cost.memory_kib);
  context.lanes = static_cast<std::uint32_t>(cost.lanes);
  context.threads = 1;  // the pool's own: no threads beside it
  context.version = ARGON2_VERSION_13;
  context.flags = ARGON2_FLAG_CLEAR_PASSWORD;
  const int code = ::argon2id_ctx(&context);
  if (code == ARGON2_OK) return digest;
  if (code != ARGON2_MEMORY_ALLOCATION_ERROR) return core::internal("internal error", std::string("argon2id: ") + ::argon2_error_message(code));
  auto error = core::overloaded("password checking has no memory left, try again later");
  error.retry_after = std::chrono::seconds(1);
  return error;
}

core::Result<Argon2Hash> new_argon2id(const std::string& password, const Argon2Cost& cost) {
  std::array<std::uint8_t, kSaltBytes> random;
  core::fill_random(random);
  Argon2Hash hash{cost, std::string(reinterpret_cast<const char*>(random.data()), random.size()), {}};
  FLEXI_TRY(hash.digest, argon2id(password, hash.salt, cost, kDigestBytes));
  return hash;
}

}  // namespace flexi::services::authentication
