// MmuService: the page tables of a VM.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_MMU_SERVICE_H_
#define SERVER_SERVICES_MMU_SERVICE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/vm/vm_registry.h"
#include "server/rpc/call_context.h"
#include "server/rpc/stream.h"
#include "tdp/v1/mmu_service.pb.h"

namespace tdp::server {

class MmuHandler {
 public:
  // Looked up in a fraction of a millisecond.
  static constexpr int kMaxFramesInPlace = 4096;

  explicit MmuHandler(VmRegistry& registry) : registry_(registry) {}

  // Long: these wait for the kernel and for other owners of entries.
  absl::Status MapRange(CallContext& context,
                        const v1::MapRangeRequest& request,
                        v1::MapRangeResponse* response);
  absl::Status ZapRange(CallContext& context,
                        const v1::ZapRangeRequest& request,
                        v1::ZapRangeResponse* response);
  absl::Status ZapAll(CallContext& context, const v1::ZapAllRequest& request,
                      v1::ZapAllResponse* response);
  absl::Status ProtectRange(CallContext& context,
                            const v1::ProtectRangeRequest& request,
                            v1::ProtectRangeResponse* response);
  absl::Status WriteProtectRange(CallContext& context,
                                 const v1::WriteProtectRangeRequest& request,
                                 v1::WriteProtectRangeResponse* response);
  absl::Status SplitHugePages(CallContext& context,
                              const v1::SplitHugePagesRequest& request,
                              v1::SplitHugePagesResponse* response);
  absl::Status CollapseHugePages(CallContext& context,
                                 const v1::CollapseHugePagesRequest& request,
                                 v1::CollapseHugePagesResponse* response);
  absl::Status AgeRange(CallContext& context,
                        const v1::AgeRangeRequest& request,
                        v1::AgeRangeResponse* response);
  absl::Status ApplyBatch(CallContext& context,
                          const v1::ApplyBatchRequest& request,
                          v1::ApplyBatchResponse* response);
  absl::Status AuditRange(CallContext& context,
                          const v1::AuditRangeRequest& request,
                          v1::AuditRangeResponse* response);
  // Short: these are lock-free. Walking very many frames takes a while.
  absl::Status WalkGfn(CallContext& context, const v1::WalkGfnRequest& request,
                       v1::WalkGfnResponse* response);
  absl::Status WalkFrames(CallContext& context,
                          const v1::WalkFramesRequest& request,
                          v1::WalkFramesResponse* response);
  static bool IsLongWalk(const v1::WalkFramesRequest& request);
  absl::StatusOr<std::unique_ptr<StreamSource<v1::WalkRangeResponse>>>
  WalkRange(CallContext& context, const v1::WalkRangeRequest& request);
  // Short where a message is a few walks and nothing else.
  absl::StatusOr<std::unique_ptr<StreamAnswerer<v1::StreamOperationsRequest,
                                                v1::StreamOperationsResponse>>>
  StreamOperations(CallContext& context);

 private:
  VmRegistry& registry_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_MMU_SERVICE_H_
