#include "server/services/stats_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/common_convert.h"
#include "server/convert/mmu_convert.h"
#include "server/services/find_vm.h"

namespace tdp::server {
namespace {

class StatsSource final : public StreamSource<v1::WatchVmStatsResponse> {
 public:
  StatsSource(CallContext& context, NamedVm vm, absl::Duration interval)
      : vm_(std::move(vm)),
        interval_(interval),
        next_time_(absl::Now()),
        listener_(vm_->AddEventListener(context.waker())) {}
  ~StatsSource() override { vm_->RemoveEventListener(listener_); }

  absl::StatusOr<StreamStep> Next(CallContext& context,
                                  v1::WatchVmStatsResponse* message) override {
    // No event is read: this only asks whether the VM is deleted.
    TDP_ASSIGN_OR_RETURN(const EventBatch log, vm_->ReadEvents(0, 0));
    if (log.closed) return StreamStep::End();
    if (context.draining()) return DrainingError();
    const absl::Time now = absl::Now();
    if (now < next_time_) return StreamStep::Park(next_time_);
    // The next one is due at a multiple of the interval after the first,
    // however late this one is.
    absl::Duration late;
    absl::IDivDuration(now - next_time_, interval_, &late);
    next_time_ = now - late + interval_;
    ToProto(vm_->Stats(), message->mutable_stats());
    return StreamStep::Send();
  }

 private:
  const NamedVm vm_;
  const absl::Duration interval_;
  absl::Time next_time_;
  // Wakes the stream when the VM is deleted, and now and then for nothing.
  const int64_t listener_;
};

absl::StatusOr<absl::Duration> IntervalOf(
    const v1::WatchVmStatsRequest& request) {
  if (!request.has_interval()) {
    return absl::Milliseconds(limits::kDefaultStatsIntervalMs);
  }
  TDP_ASSIGN_OR_RETURN(const absl::Duration interval,
                       DurationFrom("interval", request.interval()));
  if (interval < absl::Milliseconds(limits::kMinStatsIntervalMs) ||
      interval > absl::Milliseconds(limits::kMaxStatsIntervalMs)) {
    return FieldError("interval", absl::FormatDuration(interval),
                      absl::StrCat(limits::kMinStatsIntervalMs, " to ",
                                   limits::kMaxStatsIntervalMs, " ms"));
  }
  return interval;
}

}  // namespace

absl::Status StatsHandler::GetVmStats(CallContext&,
                                      const v1::GetVmStatsRequest& request,
                                      v1::GetVmStatsResponse* response) {
  TDP_ASSIGN_OR_RETURN(const NamedVm vm, FindVm(registry_, "vm", request.vm()));
  ToProto(vm->Stats(), response->mutable_stats());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<StreamSource<v1::WatchVmStatsResponse>>>
StatsHandler::WatchVmStats(CallContext& context,
                           const v1::WatchVmStatsRequest& request) {
  TDP_ASSIGN_OR_RETURN(NamedVm vm, FindVm(registry_, "vm", request.vm()));
  TDP_ASSIGN_OR_RETURN(const absl::Duration interval, IntervalOf(request));
  return std::make_unique<StatsSource>(context, std::move(vm), interval);
}

}  // namespace tdp::server
