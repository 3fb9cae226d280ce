// GuestMemoryService: the bytes of guest memory.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_GUEST_MEMORY_SERVICE_H_
#define SERVER_SERVICES_GUEST_MEMORY_SERVICE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/vm/vm_registry.h"
#include "server/rpc/call_context.h"
#include "server/rpc/stream.h"
#include "tdp/v1/guest_memory_service.pb.h"

namespace tdp::server {

// Long, all of it: bytes may have to come from a file.
class GuestMemoryHandler {
 public:
  explicit GuestMemoryHandler(VmRegistry& registry) : registry_(registry) {}

  absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadGuestMemoryResponse>>>
  ReadGuestMemory(CallContext& context,
                  const v1::ReadGuestMemoryRequest& request);
  absl::StatusOr<std::unique_ptr<
      StreamSink<v1::WriteGuestMemoryRequest, v1::WriteGuestMemoryResponse>>>
  WriteGuestMemory(CallContext& context);
  absl::Status DiscardRange(CallContext& context,
                            const v1::DiscardRangeRequest& request,
                            v1::DiscardRangeResponse* response);

 private:
  VmRegistry& registry_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_GUEST_MEMORY_SERVICE_H_
