// DirtyLogService: which frames the guest wrote, as each consumer sees it.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_DIRTY_LOG_SERVICE_H_
#define SERVER_SERVICES_DIRTY_LOG_SERVICE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/vm/vm_registry.h"
#include "server/rpc/call_context.h"
#include "server/rpc/stream.h"
#include "tdp/v1/dirty_log_service.pb.h"

namespace tdp::server {

class DirtyLogHandler {
 public:
  explicit DirtyLogHandler(VmRegistry& registry) : registry_(registry) {}

  // Long: a new consumer protects what is mapped.
  absl::Status CreateDirtyConsumer(
      CallContext& context, const v1::CreateDirtyConsumerRequest& request,
      v1::CreateDirtyConsumerResponse* response);
  absl::Status ListDirtyConsumers(CallContext& context,
                                  const v1::ListDirtyConsumersRequest& request,
                                  v1::ListDirtyConsumersResponse* response);
  // Long: waits for whoever reads its bits.
  absl::Status DeleteDirtyConsumer(
      CallContext& context, const v1::DeleteDirtyConsumerRequest& request,
      v1::DeleteDirtyConsumerResponse* response);
  // Long, both: a log may hold 256 MiB of bits, and clearing protects frames.
  absl::StatusOr<std::unique_ptr<StreamSource<v1::ReadDirtyLogResponse>>>
  ReadDirtyLog(CallContext& context, const v1::ReadDirtyLogRequest& request);
  absl::StatusOr<std::unique_ptr<
      StreamSink<v1::ClearDirtyLogRequest, v1::ClearDirtyLogResponse>>>
  ClearDirtyLog(CallContext& context);

 private:
  VmRegistry& registry_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_DIRTY_LOG_SERVICE_H_
