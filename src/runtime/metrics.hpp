// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "runtime/buckets.hpp"

namespace flexi::runtime {

/// Figures of one process in Prometheus' terms. Handles are cheap to copy and valid as long as their Metrics; look one
/// up once (it locks), then use it (it doesn't).
/// Names: flexi_<what>_<unit>[_total]. Source: https://prometheus.io/docs/practices/naming/
class Metrics {
 public:
  using Labels = std::initializer_list<std::pair<const std::string, std::string>>;

  class Counter {
   public:
    void add(double amount = 1);
    double value() const;

   private:
    friend class Metrics;
    void* counter_ = nullptr;
  };
  class Gauge {
   public:
    void set(double value);
    void add(double amount);
    double value() const;

   private:
    friend class Metrics;
    void* gauge_ = nullptr;
  };
  class Histogram {
   public:
    void observe(double seconds);
    /// Its counts as of now.
    Buckets buckets() const;

   private:
    friend class Metrics;
    void* histogram_ = nullptr;
  };

  Metrics();
  ~Metrics();
  /// The same name and labels give the same figure.
  Counter counter(const std::string& name, const std::string& help, Labels labels = {});
  Gauge gauge(const std::string& name, const std::string& help, Labels labels = {});
  /// Buckets from 100 µs to 10 s.
  Histogram histogram(const std::string& name, const std::string& help, Labels labels = {});
  /// The text that `GET /metrics` answers. Source: Prometheus text exposition format 0.0.4
  std::string expose() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexi::runtime
