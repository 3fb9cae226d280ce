// Thresholds: what a load must reach, so that a script can gate on it.
//
// Thread safety: free functions on values.

#ifndef CLIENT_TDPBENCH_THRESHOLDS_H_
#define CLIENT_TDPBENCH_THRESHOLDS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/tdpbench/load_report.h"

namespace tdp::client {

struct Thresholds {
  // Latencies of all operations that were answered without an error, from their
  // intended start. Of others, `max_error_rate` judges.
  std::optional<absl::Duration> max_p50;
  std::optional<absl::Duration> max_p99;
  std::optional<absl::Duration> max_p999;
  std::optional<double> max_error_rate;  // 0 to 1
  std::optional<double> min_rate;        // answered a second
};

// A sentence for each that is broken. Without any answer, every latency is.
std::vector<std::string> Broken(const Thresholds& thresholds,
                                const LoadReport& report);

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_THRESHOLDS_H_
