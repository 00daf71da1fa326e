// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apps/settings.hpp"
#include "apps/storage.hpp"
#include "apps/transfer/transfer.hpp"

namespace flexi::apps::transfer {

/// Which of both is moved.
struct Parts {
  bool users = false, logs = false;
  friend bool operator==(const Parts&, const Parts&) = default;
};

/// One store, or two in one folder, and what is read from or put into it.
struct Place {
  Settings settings;  ///< that name it
  Parts parts;
  std::string shown;  ///< for people: no secrets
};

/// Where `parts` are: at `names` (a data folder, a DSN, a MongoDB's URI; embedded, postgresql, mongodb as the settings have them), else where the
/// settings keep them.
/// @param flag "--from" or "--to", for messages
/// @return invalid_argument where a part has no place, or two
core::Result<std::vector<Place>> find_places(const Settings& settings, const std::vector<std::string>& names, Parts parts, const std::string& flag);

/// All of them in one text.
std::string shown(const std::vector<Place>& places);

/// The stores of some places, open.
/// Lifetime/threads: made, used and closed by one thread
class OpenPlaces {
 public:
  enum class Missing { refuse, make };  ///< a data folder that is not there

  static core::Result<std::unique_ptr<OpenPlaces>> open(const std::vector<Place>& places, Missing missing);
  ~OpenPlaces();
  TransferStores stores() const { return stores_; }
  Process& process() { return *process_; }

 private:
  OpenPlaces() = default;
  core::Result<void> wait_until_ready();

  std::unique_ptr<Process> process_;
  std::vector<std::unique_ptr<Settings>> settings_;  ///< outlive what is opened by them
  std::vector<std::unique_ptr<DataDirectory>> folders_;
  std::vector<std::unique_ptr<Storage>> storages_;
  TransferStores stores_;
};

}  // namespace flexi::apps::transfer
