// WorkingSetService: how much memory the guest uses, by age.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_WORKING_SET_SERVICE_H_
#define SERVER_SERVICES_WORKING_SET_SERVICE_H_

#include <deque>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/vm/vm_registry.h"
#include "server/base/executor.h"
#include "server/rpc/call_context.h"
#include "server/rpc/reply.h"
#include "server/rpc/stream.h"
#include "tdp/v1/working_set_service.pb.h"

namespace tdp::server {

class WorkingSetHandler {
 public:
  // Both outlive the handler.
  WorkingSetHandler(const VmRegistry& registry, Executor& executor)
      : registry_(registry), executor_(executor) {}

  // Takes as long as a scan of the VM. One scan at a time is made for all such
  // calls, so that they hold one thread of the executor, however many there
  // are; those for the same VM are answered by the same scan.
  void EstimateWorkingSet(CallContext& context,
                          const v1::EstimateWorkingSetRequest& request,
                          v1::EstimateWorkingSetResponse* response,
                          Reply reply);
  // Who reads slower than the VM is scanned misses histograms and gets the
  // newest. Ends with the VM.
  absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchWorkingSetResponse>>>
  WatchWorkingSet(CallContext& context,
                  const v1::WatchWorkingSetRequest& request);

 private:
  struct Estimate {
    std::shared_ptr<Vm> vm;
    // Both live as long as `reply`.
    CallContext* context;
    v1::EstimateWorkingSetResponse* response;
    Reply reply;
  };

  // Scans the VM that has waited longest, and answers.
  void RunEstimate() ABSL_LOCKS_EXCLUDED(mutex_);
  // The calls that wait for this VM. With `given_up`, those alone that nobody
  // wants any more.
  std::deque<Estimate> TakeEstimates(const Vm* vm, bool given_up)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void AnswerAll(std::deque<Estimate> estimates,
                 const absl::StatusOr<WorkingSet>& answer);

  const VmRegistry& registry_;
  Executor& executor_;
  absl::Mutex mutex_;
  // Oldest first, those whose scan runs included.
  std::deque<Estimate> estimates_ ABSL_GUARDED_BY(mutex_);
  // RunEstimate() runs or is queued.
  bool estimating_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_WORKING_SET_SERVICE_H_
