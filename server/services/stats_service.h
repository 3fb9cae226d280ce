// StatsService: counters and gauges of a VM.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_STATS_SERVICE_H_
#define SERVER_SERVICES_STATS_SERVICE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/vm/vm_registry.h"
#include "server/rpc/call_context.h"
#include "server/rpc/stream.h"
#include "tdp/v1/stats_service.pb.h"

namespace tdp::server {

class StatsHandler {
 public:
  explicit StatsHandler(const VmRegistry& registry) : registry_(registry) {}

  absl::Status GetVmStats(CallContext& context,
                          const v1::GetVmStatsRequest& request,
                          v1::GetVmStatsResponse* response);
  // The first sample comes at once, the others at multiples of the interval
  // after it; who reads slower misses some. Ends with the VM.
  absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchVmStatsResponse>>>
  WatchVmStats(CallContext& context, const v1::WatchVmStatsRequest& request);

 private:
  const VmRegistry& registry_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_STATS_SERVICE_H_
