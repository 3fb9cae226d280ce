#include "server/observe/metric_source.h"

#include "prometheus/text_serializer.h"

namespace tdp::server {

std::vector<prometheus::MetricFamily> MetricSources::Collect() const {
  std::vector<prometheus::MetricFamily> families;
  for (const MetricSource* source : sources_) source->Collect(families);
  return families;
}

std::string ToPrometheusText(
    const std::vector<prometheus::MetricFamily>& families) {
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace tdp::server
