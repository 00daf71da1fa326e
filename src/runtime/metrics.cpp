// SPDX-License-Identifier: Apache-2.0
#include "runtime/metrics.hpp"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <cmath>

namespace flexi::runtime {

struct Metrics::Impl {
  prometheus::Registry registry;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::Counter::add(double amount) { static_cast<prometheus::Counter*>(counter_)->Increment(amount); }
double Metrics::Counter::value() const { return static_cast<prometheus::Counter*>(counter_)->Value(); }
void Metrics::Gauge::set(double value) { static_cast<prometheus::Gauge*>(gauge_)->Set(value); }
void Metrics::Gauge::add(double amount) { static_cast<prometheus::Gauge*>(gauge_)->Increment(amount); }
double Metrics::Gauge::value() const { return static_cast<prometheus::Gauge*>(gauge_)->Value(); }
void Metrics::Histogram::observe(double seconds) { static_cast<prometheus::Histogram*>(histogram_)->Observe(seconds); }

Buckets Metrics::Histogram::buckets() const {
  const auto collected = static_cast<prometheus::Histogram*>(histogram_)->Collect();
  Buckets buckets;
  std::uint64_t below = 0;
  for (auto& bucket : collected.histogram.bucket) {
    buckets.counts.push_back(bucket.cumulative_count - below);
    below = bucket.cumulative_count;
    if (!std::isinf(bucket.upper_bound)) buckets.bounds.push_back(bucket.upper_bound);
  }
  return buckets;
}

Metrics::Counter Metrics::counter(const std::string& name, const std::string& help, Labels labels) {
  Counter handle;
  handle.counter_ = &prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry).Add(prometheus::Labels(labels));
  return handle;
}

Metrics::Gauge Metrics::gauge(const std::string& name, const std::string& help, Labels labels) {
  Gauge handle;
  handle.gauge_ = &prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry).Add(prometheus::Labels(labels));
  return handle;
}

Metrics::Histogram Metrics::histogram(const std::string& name, const std::string& help, Labels labels) {
  static const prometheus::Histogram::BucketBoundaries kBuckets{1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2,
                                                                5e-2, 0.1,    0.25, 0.5,  1,      2.5,  5,    10};
  Histogram handle;
  handle.histogram_ =
      &prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry).Add(prometheus::Labels(labels), kBuckets);
  return handle;
}

std::string Metrics::expose() const { return prometheus::TextSerializer().Serialize(impl_->registry.Collect()); }

}  // namespace flexi::runtime
