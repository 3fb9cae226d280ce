#include "client/tdpbench/thresholds.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tdp::client {

std::vector<std::string> Broken(const Thresholds& thresholds,
                                const LoadReport& report) {
  std::vector<std::string> broken;
  const Histogram total = report.Total();
  const auto check_latency = [&](const char* name, double fraction,
                                 std::optional<absl::Duration> limit) {
    if (!limit.has_value()) return;
    if (total.count() == 0) {
      broken.push_back(absl::StrCat(name, " is unknown: nothing was answered"));
      return;
    }
    const absl::Duration value = total.Percentile(fraction);
    if (value <= *limit) return;
    broken.push_back(absl::StrCat(name, " is ", absl::FormatDuration(value),
                                  "; at most ", absl::FormatDuration(*limit),
                                  " is allowed"));
  };
  check_latency("p50", 0.5, thresholds.max_p50);
  check_latency("p99", 0.99, thresholds.max_p99);
  check_latency("p99.9", 0.999, thresholds.max_p999);
  if (thresholds.max_error_rate.has_value() &&
      report.ErrorRate() > *thresholds.max_error_rate) {
    broken.push_back(
        absl::StrFormat("the error rate is %g; at most %g is allowed",
                        report.ErrorRate(), *thresholds.max_error_rate));
  }
  if (thresholds.min_rate.has_value() &&
      report.OkPerSecond() < *thresholds.min_rate) {
    broken.push_back(
        absl::StrFormat("the rate is %.1f a second; at least %g is asked for",
                        report.OkPerSecond(), *thresholds.min_rate));
  }
  return broken;
}

}  // namespace tdp::client
