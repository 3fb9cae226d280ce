// Histograms whose buckets double, from microseconds as they are counted to
// seconds as Prometheus shows them.
//
// Thread safety: free functions on values.

#ifndef SERVER_OBSERVE_LOG2_HISTOGRAM_H_
#define SERVER_OBSERVE_LOG2_HISTOGRAM_H_

#include <algorithm>
#include <bit>
#include <cstdint>

#include "absl/types/span.h"
#include "prometheus/client_metric.h"

namespace tdp::server {

// The buckets of a call's duration: up to 16 us, 32 us, and so on to 16.8 s;
// the last one is for what took longer.
inline constexpr int kFirstCallBucketLog2Us = 4;
inline constexpr int kCallBucketCount = 22;

constexpr int CallBucketOf(int64_t nanos) {
  if (nanos <= 0) return 0;
  const uint64_t us = (static_cast<uint64_t>(nanos) + 999) / 1000;
  const int log2 = static_cast<int>(std::bit_width(us - 1));
  return std::clamp(log2 - kFirstCallBucketLog2Us, 0, kCallBucketCount - 1);
}

// `counts[i]` is of what took at most 2^(first_log2_us + i) us and more than
// the bucket before; the last one has no upper bound.
prometheus::ClientMetric::Histogram ToHistogram(
    absl::Span<const int64_t> counts, int first_log2_us, double sum_seconds);

// The sum of what was counted, as if it lay in the middle of its buckets.
double EstimateSumSeconds(absl::Span<const int64_t> counts, int first_log2_us);

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_LOG2_HISTOGRAM_H_
