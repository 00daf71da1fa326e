// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "apps/settings.hpp"
#include "runtime/metrics.hpp"
#include "runtime/net/address_health.hpp"
#include "runtime/readiness.hpp"
#include "runtime/shards.hpp"

namespace flexi::apps {

/// What every part of a process stands on. Outlives them all.
struct Process {
  Process(const Settings& settings, unsigned threads) : log(settings.level(), settings.format()), shards(threads) {}
  runtime::LogSink log;
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::Shards shards;
  runtime::net::Peers peers;
};

}  // namespace flexi::apps
