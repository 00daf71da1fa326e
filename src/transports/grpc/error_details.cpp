// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "google/rpc/error_details.pb.h"
#include "transports/grpc/codec.hpp"
#include "transports/grpc/method.hpp"

namespace flexi::transports::grpc {

namespace {

using std::chrono::milliseconds;

constexpr std::string_view kDomain = "flexiconnect";

/// Reasons are capitals, as google.aip.dev/193 asks.
std::string reason_of(core::ErrorKind kind) {
  std::string reason(core::to_string(kind));
  std::transform(reason.begin(), reason.end(), reason.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return reason;
}

std::optional<core::ErrorKind> kind_from_reason(std::string_view reason) {
  for (auto kind : core::kAllErrorKinds)
    if (reason_of(kind) == reason) return kind;
  return std::nullopt;
}

/// Whether a peer that isn't ours may have done what it was asked, though it failed.
bool may_have_been_done(Code code) {
  switch (code) {
    case Code::invalid_argument:
    case Code::not_found:
    case Code::already_exists:
    case Code::permission_denied:
    case Code::resource_exhausted:
    case Code::failed_precondition:
    case Code::out_of_range:
    case Code::unimplemented:
    case Code::unauthenticated: return false;
    default: return true;
  }
}

}  // namespace

void write_error(::google::rpc::Status& message, const core::Error& error, const std::string& id) {
  message.set_code(static_cast<int>(code_of(error.kind)));
  message.set_message(error.message);
  ::google::rpc::ErrorInfo info;
  info.set_reason(reason_of(error.kind));
  info.set_domain(std::string(kDomain));
  if (error.sent == core::Sent::maybe) (*info.mutable_metadata())["sent"] = "maybe";
  if (!error.way.empty()) (*info.mutable_metadata())["way"] = error.way;
  if (!id.empty()) (*info.mutable_metadata())["id"] = id;
  message.add_details()->PackFrom(info);
  if (!error.retry_after && error.kind != core::ErrorKind::overloaded) return;
  ::google::rpc::RetryInfo retry;
  const auto delay = error.retry_after.value_or(milliseconds(1'000)).count();
  retry.mutable_retry_delay()->set_seconds(delay / 1'000);
  retry.mutable_retry_delay()->set_nanos(static_cast<std::int32_t>(delay % 1'000 * 1'000'000));
  message.add_details()->PackFrom(retry);
}

Status status_with_details(const core::Error& error) {
  auto status = to_status(error);
  ::google::rpc::Status details;
  write_error(details, error);
  status.details = details.SerializeAsString();
  return status;
}

core::Error error_from(const ClientResult& result) {
  const auto& status = result.status;
  auto error = to_error(status, result.sent);
  if (error.message.empty()) error.message = "the service answered with gRPC status " + std::to_string(static_cast<int>(status.code));
  bool ours = false;
  ::google::rpc::Status details;
  if (!status.details.empty() && details.ParseFromString(status.details)) {
    for (auto& any : details.details()) {
      ::google::rpc::ErrorInfo info;
      ::google::rpc::RetryInfo retry;
      if (any.UnpackTo(&info) && info.domain() == kDomain) {
        const auto kind = kind_from_reason(info.reason());
        if (!kind) continue;
        ours = true;
        error.kind = *kind;
        const auto known = info.metadata().find("sent");
        error.sent = known != info.metadata().end() && known->second == "maybe" ? core::Sent::maybe : core::Sent::no;
      } else if (any.UnpackTo(&retry)) {
        // A peer's figures: more than a day is no advice.
        const auto seconds = retry.retry_delay().seconds();
        const auto nanos = retry.retry_delay().nanos();
        if (seconds >= 0 && seconds <= 86'400 && nanos >= 0) error.retry_after = milliseconds(seconds * 1'000 + nanos / 1'000'000);
      }
    }
  }
  if (!ours && result.sent == core::Sent::maybe) error.sent = may_have_been_done(status.code) ? core::Sent::maybe : core::Sent::no;
  if (const auto named = core::error_kind_from(result.trailing.find(kErrorKey)); named && !ours) {
    error.kind = *named;
    error.sent = core::Sent::no;
  }
  if (result.trailing.find(kSentKey) == "maybe") error.sent = core::Sent::maybe;
  // Without our details these two are also what a wire, or a proxy, says by itself.
  error.answered = ours || (result.answered && status.code != Code::unavailable && status.code != Code::deadline_exceeded);
  return error;
}

}  // namespace flexi::transports::grpc
