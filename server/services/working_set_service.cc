#include "server/services/working_set_service.h"

#include <cstdint>
#include <utility>

#include "absl/time/time.h"
#include "server/base/status_macros.h"
#include "server/convert/working_set_convert.h"
#include "server/services/find_vm.h"

namespace tdp::server {
namespace {

class WatchSource final : public StreamSource<v1::WatchWorkingSetResponse> {
 public:
  WatchSource(NamedVm vm, int64_t watcher)
      : vm_(std::move(vm)), watcher_(watcher) {}
  ~WatchSource() override { vm_->RemoveWorkingSetWatcher(watcher_); }

  absl::StatusOr<StreamStep> Next(
      CallContext& context, v1::WatchWorkingSetResponse* message) override {
    TDP_ASSIGN_OR_RETURN(const WorkingSetUpdate update,
                         vm_->ReadWorkingSet(watcher_));
    if (update.working_set.has_value()) {
      ToProto(*update.working_set, message->mutable_working_set());
      return StreamStep::Send();
    }
    if (update.closed) return StreamStep::End();
    if (context.draining()) return DrainingError();
    return StreamStep::Park();
  }

 private:
  const NamedVm vm_;
  const int64_t watcher_;
};

}  // namespace

absl::Status WorkingSetHandler::EstimateWorkingSet(
    CallContext& context, const v1::EstimateWorkingSetRequest& request,
    v1::EstimateWorkingSetResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  const absl::StatusOr<WorkingSet> set = vm->EstimateWorkingSet(
      {.time = absl::InfiniteDuration(),
       .cancelled = [&context] { return context.cancelled(); }});
  // Says why nobody wants it, where the engine knows only that.
  TDP_RETURN_IF_ERROR(context.CheckAlive());
  if (!set.ok()) return set.status();
  ToProto(*set, response->mutable_working_set());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchWorkingSetResponse>>>
WorkingSetHandler::WatchWorkingSet(CallContext& context,
                                   const v1::WatchWorkingSetRequest& request) {
  TDP_ASSIGN_OR_RETURN(NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(
      const absl::Duration interval,
      ScanIntervalFrom("interval", request.has_interval(), request.interval()));
  TDP_ASSIGN_OR_RETURN(const int64_t watcher,
                       vm->AddWorkingSetWatcher(interval, context.waker()));
  return std::make_unique<WatchSource>(std::move(vm), watcher);
}

}  // namespace tdp::server
