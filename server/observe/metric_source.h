// MetricSource: something that has numbers for Prometheus. MetricSources: all
// of them, as one scrape sees them.
//
// Thread safety: Collect() from any thread. Add() before the first scrape.

#ifndef SERVER_OBSERVE_METRIC_SOURCE_H_
#define SERVER_OBSERVE_METRIC_SOURCE_H_

#include <string>
#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace tdp::server {

class MetricSource {
 public:
  virtual ~MetricSource() = default;
  // Appends families whose names no other source uses. Takes milliseconds, and
  // never waits for a call that is under way.
  virtual void Collect(
      std::vector<prometheus::MetricFamily>& families) const = 0;
};

class MetricSources final : public prometheus::Collectable {
 public:
  // `source` outlives the last scrape.
  void Add(const MetricSource* source) { sources_.push_back(source); }
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  std::vector<const MetricSource*> sources_;
};

// In Prometheus' text format.
std::string ToPrometheusText(
    const std::vector<prometheus::MetricFamily>& families);

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_METRIC_SOURCE_H_
