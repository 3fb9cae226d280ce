#include "server/observe/log2_histogram.h"

#include <cmath>
#include <limits>

namespace tdp::server {
namespace {

constexpr double kSecondsPerMicrosecond = 1e-6;

double UpperBoundSeconds(size_t i, int first_log2_us) {
  return std::ldexp(1.0, static_cast<int>(i) + first_log2_us) *
         kSecondsPerMicrosecond;
}

}  // namespace

prometheus::ClientMetric::Histogram ToHistogram(
    absl::Span<const int64_t> counts, int first_log2_us, double sum_seconds) {
  prometheus::ClientMetric::Histogram histogram;
  histogram.bucket.reserve(counts.size());
  uint64_t cumulative = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    cumulative += static_cast<uint64_t>(std::max<int64_t>(counts[i], 0));
    histogram.bucket.push_back(
        {cumulative, i + 1 < counts.size()
                         ? UpperBoundSeconds(i, first_log2_us)
                         : std::numeric_limits<double>::infinity()});
  }
  histogram.sample_count = cumulative;
  histogram.sample_sum = sum_seconds;
  return histogram;
}

double EstimateSumSeconds(absl::Span<const int64_t> counts, int first_log2_us) {
  double sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    // A bucket reaches from half of its bound, or from 0, to its bound.
    const double middle = i == 0 ? 0.5 : 0.75;
    sum += static_cast<double>(counts[i]) * middle *
           UpperBoundSeconds(i, first_log2_us);
  }
  return sum;
}

}  // namespace tdp::server
