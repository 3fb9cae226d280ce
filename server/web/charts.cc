#include "server/web/charts.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace tdp::server {
namespace {

constexpr absl::string_view kDurations = "tdpd_rpc_duration_seconds";

// The names of services and methods have nothing to escape.
std::string LabelOf(const prometheus::ClientMetric& metric,
                    absl::string_view name) {
  for (const auto& label : metric.label) {
    if (name == label.name) return label.value;
  }
  return "";
}

std::string Seconds(double seconds) { return absl::StrFormat("%.9g", seconds); }

std::string MethodJson(const prometheus::ClientMetric& metric) {
  const auto& histogram = metric.histogram;
  std::vector<std::string> counts;
  for (const auto& bucket : histogram.bucket) {
    counts.push_back(absl::StrCat("\"", bucket.cumulative_count, "\""));
  }
  return absl::StrCat(
      "{\"service\":\"", LabelOf(metric, "service"), "\",\"method\":\"",
      LabelOf(metric, "method"), "\",\"count\":\"", histogram.sample_count,
      "\",\"sumSeconds\":", Seconds(histogram.sample_sum),
      ",\"cumulativeCounts\":[", absl::StrJoin(counts, ","), "]}");
}

}  // namespace

std::string RpcChartsJson(const MetricSource& calls) {
  std::vector<prometheus::MetricFamily> families;
  calls.Collect(families);
  std::vector<std::string> bounds;
  std::vector<std::string> methods;
  for (const prometheus::MetricFamily& family : families) {
    if (kDurations != family.name) continue;
    for (const prometheus::ClientMetric& metric : family.metric) {
      const auto& buckets = metric.histogram.bucket;
      // The same of each method; the last one is infinite.
      for (size_t i = bounds.size(); i + 1 < buckets.size(); ++i) {
        bounds.push_back(Seconds(buckets[i].upper_bound));
      }
      if (metric.histogram.sample_count > 0) {
        methods.push_back(MethodJson(metric));
      }
    }
  }
  return absl::StrCat("{\"upperBoundsSeconds\":[", absl::StrJoin(bounds, ","),
                      "],\"methods\":[", absl::StrJoin(methods, ","), "]}");
}

}  // namespace tdp::server
