// VmService: the life cycle of virtual machines.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_VM_SERVICE_H_
#define SERVER_SERVICES_VM_SERVICE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/vm/vm_registry.h"
#include "server/convert/request_cache.h"
#include "server/rpc/call_context.h"
#include "tdp/v1/vm_service.pb.h"

namespace tdp::server {

class VmHandler {
 public:
  VmHandler(VmRegistry& registry, RequestCache& requests)
      : registry_(registry), requests_(requests) {}

  // Long: it waits for the kernel.
  absl::Status CreateVm(CallContext& context,
                        const v1::CreateVmRequest& request,
                        v1::CreateVmResponse* response);
  absl::Status GetVm(CallContext& context, const v1::GetVmRequest& request,
                     v1::GetVmResponse* response);
  absl::Status ListVms(CallContext& context, const v1::ListVmsRequest& request,
                       v1::ListVmsResponse* response);
  absl::Status UpdateVm(CallContext& context,
                        const v1::UpdateVmRequest& request,
                        v1::UpdateVmResponse* response);
  // Long: these wait for vCPU threads.
  absl::Status DeleteVm(CallContext& context,
                        const v1::DeleteVmRequest& request,
                        v1::DeleteVmResponse* response);
  absl::Status StartVm(CallContext& context, const v1::StartVmRequest& request,
                       v1::StartVmResponse* response);
  absl::Status PauseVm(CallContext& context, const v1::PauseVmRequest& request,
                       v1::PauseVmResponse* response);
  absl::Status ResumeVm(CallContext& context,
                        const v1::ResumeVmRequest& request,
                        v1::ResumeVmResponse* response);
  absl::Status StopVm(CallContext& context, const v1::StopVmRequest& request,
                      v1::StopVmResponse* response);

 private:
  using Transition = absl::StatusOr<VmInfo> (Vm::*)();
  absl::Status Change(absl::string_view name, Transition transition,
                      v1::Vm* out);

  VmRegistry& registry_;
  RequestCache& requests_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_VM_SERVICE_H_
