// MemslotService: which guest frames exist and what backs them.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_MEMSLOT_SERVICE_H_
#define SERVER_SERVICES_MEMSLOT_SERVICE_H_

#include "absl/status/status.h"
#include "engine/vm/vm_registry.h"
#include "server/convert/request_cache.h"
#include "server/rpc/call_context.h"
#include "tdp/v1/memslot_service.pb.h"

namespace tdp::server {

class MemslotHandler {
 public:
  MemslotHandler(VmRegistry& registry, RequestCache& requests)
      : registry_(registry), requests_(requests) {}

  // Long: changes of memslots wait for vCPUs and for the kernel.
  absl::Status CreateMemslot(CallContext& context,
                             const v1::CreateMemslotRequest& request,
                             v1::CreateMemslotResponse* response);
  absl::Status GetMemslot(CallContext& context,
                          const v1::GetMemslotRequest& request,
                          v1::GetMemslotResponse* response);
  absl::Status ListMemslots(CallContext& context,
                            const v1::ListMemslotsRequest& request,
                            v1::ListMemslotsResponse* response);
  absl::Status UpdateMemslot(CallContext& context,
                             const v1::UpdateMemslotRequest& request,
                             v1::UpdateMemslotResponse* response);
  absl::Status DeleteMemslot(CallContext& context,
                             const v1::DeleteMemslotRequest& request,
                             v1::DeleteMemslotResponse* response);

 private:
  VmRegistry& registry_;
  RequestCache& requests_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_MEMSLOT_SERVICE_H_
