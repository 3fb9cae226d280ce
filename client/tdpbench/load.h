// RunLoad: closed-loop load. Each worker makes one call after the other until
// the time is over.
//
// Latencies are those of calls that were answered without an error; a call
// that began in the warm-up counts for nothing. Each worker makes at least one
// call that counts, however late it gets to run.
//
// Thread safety: free functions. The call runs in several threads at a time.

#ifndef CLIENT_TDPBENCH_LOAD_H_
#define CLIENT_TDPBENCH_LOAD_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tdp::client {

struct LoadOptions {
  int worker_count = 1;
  absl::Duration warm_up = absl::Seconds(1);
  absl::Duration duration = absl::Seconds(10);
};

struct LoadReport {
  int64_t call_count = 0;
  int64_t error_count = 0;
  absl::Status first_error;
  absl::Duration elapsed;
  absl::Duration p50;
  absl::Duration p90;
  absl::Duration p99;
  absl::Duration max;

  double CallsPerSecond() const {
    const double seconds = absl::ToDoubleSeconds(elapsed);
    return seconds > 0 ? static_cast<double>(call_count) / seconds : 0;
  }
};

// `call` gets the number of the worker and of its call.
LoadReport RunLoad(const LoadOptions& options,
                   absl::FunctionRef<absl::Status(int, int64_t)> call);

std::string LoadText(const LoadReport& report);
std::string LoadJson(const LoadReport& report);

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_LOAD_H_
