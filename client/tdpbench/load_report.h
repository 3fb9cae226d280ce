// LoadReport: what came of a load, and how it is shown.
//
// Thread safety: free functions on values.

#ifndef CLIENT_TDPBENCH_LOAD_REPORT_H_
#define CLIENT_TDPBENCH_LOAD_REPORT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/tdpbench/histogram.h"
#include "client/tdpbench/mix.h"

namespace tdp::client {

// Calls that were answered without an error. An error has no latency: a daemon
// that refuses quickly would look fast.
struct OperationReport {
  // From when the call should have started.
  Histogram from_intended;
  // From when it did.
  Histogram from_actual;
};

struct LoadReport {
  int64_t ok_count() const;
  int64_t error_count() const;
  // Answered without an error, a second, while calls were to start. What is
  // answered after that counts for nothing here, nor does the wait for it.
  double OkPerSecond() const;
  // Of all that were answered or should have been sent.
  double ErrorRate() const;
  // Of all operations, from when they should have started.
  Histogram Total() const;

  std::map<Operation, OperationReport> operations;
  std::map<absl::StatusCode, int64_t> errors;
  // Calls that the load had no room for in time; they count as errors.
  int64_t missed_count = 0;
  // Answered without an error before the last call was to start.
  int64_t ok_in_time_count = 0;
  absl::Status first_error;
  // For how long calls were to start.
  absl::Duration elapsed;
  absl::Duration client_cpu;
  // Nothing where it cannot be known.
  std::optional<absl::Duration> daemon_cpu;
};

// For people: a table, what it took, and the latencies as a plot.
void PrintText(const LoadReport& report, std::ostream& out);
// For programs: one JSON object on one line.
std::string ToJson(const LoadReport& report);

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_LOAD_REPORT_H_
