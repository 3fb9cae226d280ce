// OperationStream: MmuService.StreamOperations, one message at a time.
//
// What an operation costs here beside its own work is what makes the stream
// worth having, so nothing is allocated for it but its part of the messages,
// and walks that follow each other are one call of the engine.
//
// Thread safety: none; a stream answers one message at a time.

#ifndef SERVER_SERVICES_OPERATION_STREAM_H_
#define SERVER_SERVICES_OPERATION_STREAM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/vm/vm_registry.h"
#include "server/rpc/call_context.h"
#include "server/rpc/stream.h"
#include "server/services/work_meter.h"
#include "tdp/v1/mmu_service.pb.h"

namespace tdp::server {

class OperationStream final
    : public StreamAnswerer<v1::StreamOperationsRequest,
                            v1::StreamOperationsResponse> {
 public:
  // `registry` outlives the stream.
  explicit OperationStream(const VmRegistry& registry) : registry_(registry) {}

  // An operation that fails leaves its error in its result. The stream ends
  // with an error if a message is no good as a whole, if nobody waits for the
  // answers any more, or if the VM is deleted.
  absl::Status Answer(CallContext& context,
                      const v1::StreamOperationsRequest& message,
                      v1::StreamOperationsResponse* response) override;

  // Whether a message may wait for something or take milliseconds.
  static bool IsLong(const v1::StreamOperationsRequest& message);

 private:
  absl::Status BindVm(const std::string& name);
  absl::Status Run(CallContext& context,
                   const v1::StreamOperationsRequest& message,
                   v1::StreamOperationsResponse* response, WorkMeter& meter);
  // Answers the walks from operations[first] on, up to an operation that is
  // none. Returns how many there were.
  absl::StatusOr<int> WalkRun(const v1::StreamOperationsRequest& message,
                              int first,
                              v1::StreamOperationsResponse* response);
  absl::StatusOr<RangeProgress> Change(const v1::StreamOperation& operation,
                                       WorkMeter& meter);
  // The range, with what is left of the message's time in budget_.
  template <typename Request>
  absl::StatusOr<GfnRange> Begin(const Request& request, WorkMeter& meter);

  const VmRegistry& registry_;
  std::string name_;
  std::shared_ptr<Vm> vm_;  // null before the first message
  // Of one message, here to keep their memory.
  std::vector<uint64_t> gfns_;
  std::vector<SpteView> views_;
  WorkBudget budget_;
  absl::Time budget_end_;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_OPERATION_STREAM_H_
