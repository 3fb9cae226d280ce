// WorkingSetService: how much memory the guest uses, by age.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_WORKING_SET_SERVICE_H_
#define SERVER_SERVICES_WORKING_SET_SERVICE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/vm/vm_registry.h"
#include "server/rpc/call_context.h"
#include "server/rpc/stream.h"
#include "tdp/v1/working_set_service.pb.h"

namespace tdp::server {

class WorkingSetHandler {
 public:
  explicit WorkingSetHandler(const VmRegistry& registry)
      : registry_(registry) {}

  // Long: as long as a scan of the VM takes.
  absl::Status EstimateWorkingSet(CallContext& context,
                                  const v1::EstimateWorkingSetRequest& request,
                                  v1::EstimateWorkingSetResponse* response);
  // Who reads slower than the VM is scanned misses histograms and gets the
  // newest. Ends with the VM.
  absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchWorkingSetResponse>>>
  WatchWorkingSet(CallContext& context,
                  const v1::WatchWorkingSetRequest& request);

 private:
  const VmRegistry& registry_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_WORKING_SET_SERVICE_H_
