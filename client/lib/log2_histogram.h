// Quantiles of the API's latency histograms.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_LOG2_HISTOGRAM_H_
#define CLIENT_LIB_LOG2_HISTOGRAM_H_

#include <cstdint>
#include <string>

#include "absl/types/span.h"

namespace tdp::client {

// The upper bound, in microseconds, of the bucket that holds the `percent`
// quantile: "64 us"; "" where nothing was counted. counts[i] is the number of
// values in (2^(i-1), 2^i].
std::string QuantileText(absl::Span<const int64_t> counts, int percent);

}  // namespace tdp::client

#endif  // CLIENT_LIB_LOG2_HISTOGRAM_H_
