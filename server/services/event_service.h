// EventService: what happened to a VM, in order, and verdicts on what waits.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_EVENT_SERVICE_H_
#define SERVER_SERVICES_EVENT_SERVICE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/vm/vm_registry.h"
#include "server/rpc/call_context.h"
#include "server/rpc/stream.h"
#include "tdp/v1/event_service.pb.h"

namespace tdp::server {

class EventHandler {
 public:
  // A stream without events sends an empty message this often.
  static constexpr absl::Duration kHeartbeat = absl::Seconds(10);

  explicit EventHandler(const VmRegistry& registry,
                        absl::Duration heartbeat = kHeartbeat)
      : registry_(registry), heartbeat_(heartbeat) {}

  // The first message comes at once, with or without events: from then on the
  // stream misses nothing.
  absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchEventsResponse>>>
  WatchEvents(CallContext& context, const v1::WatchEventsRequest& request);
  absl::Status ListWaitingAccesses(
      CallContext& context, const v1::ListWaitingAccessesRequest& request,
      v1::ListWaitingAccessesResponse* response);
  // Long: a verdict may stop the VM.
  absl::Status ResolveAccess(CallContext& context,
                             const v1::ResolveAccessRequest& request,
                             v1::ResolveAccessResponse* response);

 private:
  const VmRegistry& registry_;
  const absl::Duration heartbeat_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_EVENT_SERVICE_H_
