// RunLoad: makes calls at a daemon, and measures them.
//
// One thread sends and takes all calls from one completion queue. What starts
// in the warm-up counts for nothing.
//
// Thread safety: free function.

#ifndef CLIENT_TDPBENCH_LOAD_H_
#define CLIENT_TDPBENCH_LOAD_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/lib/target.h"
#include "client/tdpbench/load_report.h"
#include "client/tdpbench/mix.h"
#include "client/tdpbench/remote_call.h"

namespace tdp::client {

struct LoadOptions {
  Target target;
  Mix mix;
  RequestOptions requests;
  int connections = 1;
  // Calls under way at a time, over all connections.
  int in_flight = 1;
  // Calls a second; 0: the next one starts when one ends.
  double rate = 0;
  absl::Duration warm_up = absl::Seconds(1);
  absl::Duration duration = absl::Seconds(10);
  uint64_t seed = 1;
};

// Fails if the target cannot be meant. What the daemon answers, or that it does
// not, is in the report.
absl::StatusOr<LoadReport> RunLoad(const LoadOptions& options);

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_LOAD_H_
