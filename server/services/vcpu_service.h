// VcpuService: loads guests and looks at vCPUs.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_VCPU_SERVICE_H_
#define SERVER_SERVICES_VCPU_SERVICE_H_

#include "absl/status/status.h"
#include "engine/vm/vm_registry.h"
#include "server/base/executor.h"
#include "server/rpc/call_context.h"
#include "server/rpc/reply.h"
#include "tdp/v1/vcpu_service.pb.h"

namespace tdp::server {

class VcpuHandler {
 public:
  // `executor` carries on calls that wait; it outlives the registry's VMs.
  VcpuHandler(VmRegistry& registry, Executor& executor)
      : registry_(registry), executor_(executor) {}

  // Long: it puts code into guest memory.
  absl::Status LoadGuest(CallContext& context,
                         const v1::LoadGuestRequest& request,
                         v1::LoadGuestResponse* response);
  absl::Status GetVcpu(CallContext& context, const v1::GetVcpuRequest& request,
                       v1::GetVcpuResponse* response);
  absl::Status ListVcpus(CallContext& context,
                         const v1::ListVcpusRequest& request,
                         v1::ListVcpusResponse* response);
  // Answers through `reply` shortly before the deadline at the latest, with the
  // vCPU as it then is. Holds no thread while it waits.
  void WaitVcpu(CallContext& context, const v1::WaitVcpuRequest& request,
                v1::WaitVcpuResponse* response, Reply reply);

 private:
  VmRegistry& registry_;
  Executor& executor_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_VCPU_SERVICE_H_
