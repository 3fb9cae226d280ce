// FamilyBuilder: makes a prometheus::MetricFamily, a line for each metric.
//
// Thread safety: none; a value.

#ifndef SERVER_OBSERVE_METRIC_FAMILY_H_
#define SERVER_OBSERVE_METRIC_FAMILY_H_

#include <string>
#include <utility>
#include <vector>

#include "prometheus/metric_family.h"

namespace tdp::server {

using MetricLabels = std::vector<prometheus::ClientMetric::Label>;

class FamilyBuilder {
 public:
  FamilyBuilder(prometheus::MetricType type, std::string name,
                std::string help) {
    family_.type = type;
    family_.name = std::move(name);
    family_.help = std::move(help);
  }

  static FamilyBuilder Counter(std::string name, std::string help) {
    return {prometheus::MetricType::Counter, std::move(name), std::move(help)};
  }
  static FamilyBuilder Gauge(std::string name, std::string help) {
    return {prometheus::MetricType::Gauge, std::move(name), std::move(help)};
  }
  static FamilyBuilder Histogram(std::string name, std::string help) {
    return {prometheus::MetricType::Histogram, std::move(name),
            std::move(help)};
  }

  // Of a counter or a gauge.
  FamilyBuilder& Add(MetricLabels labels, double value) {
    prometheus::ClientMetric& metric = AddMetric(std::move(labels));
    if (family_.type == prometheus::MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    return *this;
  }
  FamilyBuilder& Add(MetricLabels labels,
                     prometheus::ClientMetric::Histogram histogram) {
    AddMetric(std::move(labels)).histogram = std::move(histogram);
    return *this;
  }

  void MoveTo(std::vector<prometheus::MetricFamily>& families) {
    families.push_back(std::move(family_));
  }

 private:
  prometheus::ClientMetric& AddMetric(MetricLabels labels) {
    prometheus::ClientMetric& metric = family_.metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }

  prometheus::MetricFamily family_;
};

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_METRIC_FAMILY_H_
