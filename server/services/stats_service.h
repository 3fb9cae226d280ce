// StatsService: counters and gauges of a VM.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_STATS_SERVICE_H_
#define SERVER_SERVICES_STATS_SERVICE_H_

#include "absl/status/status.h"
#include "engine/vm/vm_registry.h"
#include "server/rpc/call_context.h"
#include "tdp/v1/stats_service.pb.h"

namespace tdp::server {

class StatsHandler {
 public:
  explicit StatsHandler(const VmRegistry& registry) : registry_(registry) {}

  absl::Status GetVmStats(CallContext& context,
                          const v1::GetVmStatsRequest& request,
                          v1::GetVmStatsResponse* response);

 private:
  const VmRegistry& registry_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_STATS_SERVICE_H_
