// WorkingSetService: how much memory the guest uses, by age.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_SERVICES_WORKING_SET_SERVICE_H_
#define SERVER_SERVICES_WORKING_SET_SERVICE_H_

#include <deque>
#include <memory>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/vm/vm_registry.h"
#include "server/base/executor.h"
#include "server/rpc/call_context.h"
#include "server/rpc/reply.h"
#include "server/rpc/stream.h"
#include "server/services/newest_working_sets.h"
#include "tdp/v1/working_set_service.pb.h"

namespace tdp::server {

class WorkingSetHandler {
 public:
  // Both outlive the handler.
  WorkingSetHandler(const VmRegistry& registry, Executor& executor)
      : registry_(registry), executor_(executor) {}

  // VMs that are scanned for estimates at the same time: half of the executor's
  // threads.
  static constexpr int kMaxScans = 4;

  // What calls of either method were answered last.
  const NewestWorkingSets& newest() const { return *newest_; }

  // Takes as long as a scan of the VM. However many such calls there are, they
  // hold kMaxScans threads of the executor at most; those for the same VM are
  // answered by the same scan. One that is not wanted any more waits for a scan
  // to end, or for the next call to come, at the longest.
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

  // Scans the VM that has waited longest, and answers. For one of runners_.
  void RunEstimate() ABSL_LOCKS_EXCLUDED(mutex_);
  // The oldest estimate whose VM nobody scans, or the end.
  std::deque<Estimate>::iterator NextEstimate()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes estimates out of estimates_.
  std::deque<Estimate> Take(absl::FunctionRef<bool(const Estimate&)> wanted)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void AnswerAll(std::deque<Estimate> estimates,
                        const absl::StatusOr<WorkingSet>& answer);

  const VmRegistry& registry_;
  Executor& executor_;
  // Streams have it, too.
  const std::shared_ptr<NewestWorkingSets> newest_ =
      std::make_shared<NewestWorkingSets>();
  absl::Mutex mutex_;
  // Oldest first, those whose scan runs included.
  std::deque<Estimate> estimates_ ABSL_GUARDED_BY(mutex_);
  // How often RunEstimate() runs or is queued. Where an estimate's VM is not
  // scanned, one is queued, or there are kMaxScans.
  int runners_ ABSL_GUARDED_BY(mutex_) = 0;
  // What those that run scan. They answer all estimates of these VMs.
  std::set<const Vm*> scanned_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_SERVICES_WORKING_SET_SERVICE_H_
