// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/mailer.hpp"
#include "runtime/shards.hpp"

namespace flexi::conformance {

/// One way to deliver mail, with what the suite must be able to do to it.
class MailerUnderTest {
 public:
  virtual ~MailerUnderTest() = default;
  /// Called again after close(): what was delivered is still known.
  virtual core::Result<void> open() = 0;
  virtual void close() = 0;
  virtual core::Mailer& mailer() = 0;
  /// Subjects of the mails that arrived, in order; waits for `count` of them.
  virtual std::vector<std::string> arrived(std::size_t count) = 0;
  /// The destination is away until it comes back.
  virtual void take_away() = 0;
  virtual void bring_back() = 0;
  /// Runs `while_full` while as many deliveries wait as may.
  virtual void with_full_queue(const std::function<void()>& while_full) = 0;
};

struct MailerKind {
  std::string name;
  std::function<std::unique_ptr<MailerUnderTest>(std::filesystem::path folder, runtime::Shards& shards)> make;
  bool judges = false;  ///< the destination may refuse a recipient, or put it off
  friend void PrintTo(const MailerKind& kind, std::ostream* out) { *out << kind.name; }
};
std::vector<MailerKind> all_mailers();

}  // namespace flexi::conformance
