// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "core/handler.hpp"

namespace flexi::transports::rpc {

/// The interface of schemas/flexiconnect.capnp that an exported object has.
enum class ObjectType { logger, authentication, mail, broker, actions };

struct Exported {
  ObjectType type;
  core::Handler* handler = nullptr;         ///< null: there are no services here
  core::Handler* administration = nullptr;  ///< of Actions: who answers administrative actions
  core::Handler* broker = nullptr;          ///< of Actions: who hands on what no service here owns; null: nobody
};

/// What a server exports, by name.
/// Lifetime/threads: filled before the server starts, then immutable and of any thread
class Registry {
 public:
  /// @return conflict where the name is taken, invalid_argument where it is none
  core::Result<void> add(std::string name, Exported exported);
  const Exported* find(std::string_view name) const;
  const std::map<std::string, Exported, std::less<>>& all() const { return objects_; }

 private:
  std::map<std::string, Exported, std::less<>> objects_;
};

}  // namespace flexi::transports::rpc
