#include "server/services/working_set_service.h"

#include <algorithm>
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
  WatchSource(NamedVm vm, int64_t watcher,
              std::shared_ptr<NewestWorkingSets> newest)
      : vm_(std::move(vm)), watcher_(watcher), newest_(std::move(newest)) {}
  ~WatchSource() override { vm_->RemoveWorkingSetWatcher(watcher_); }

  absl::StatusOr<StreamStep> Next(
      CallContext& context, v1::WatchWorkingSetResponse* message) override {
    TDP_ASSIGN_OR_RETURN(const WorkingSetUpdate update,
                         vm_->ReadWorkingSet(watcher_));
    if (update.working_set.has_value()) {
      newest_->Put(vm_.vm, *update.working_set);
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
  const std::shared_ptr<NewestWorkingSets> newest_;
};

}  // namespace

void WorkingSetHandler::EstimateWorkingSet(
    CallContext& context, const v1::EstimateWorkingSetRequest& request,
    v1::EstimateWorkingSetResponse* response, Reply reply) {
  absl::StatusOr<NamedVm> vm = FindVm(registry_, "vm", request.vm());
  if (!vm.ok()) return reply(vm.status());
  std::deque<Estimate> unwanted;
  bool run = false;
  {
    absl::MutexLock lock(&mutex_);
    // Who calls again and again with short deadlines must not pile up.
    unwanted = Take(
        [](const Estimate& estimate) { return estimate.context->cancelled(); });
    run = !scanned_.contains(vm->vm.get()) && runners_ < kMaxScans;
    if (run) ++runners_;
    estimates_.push_back(
        {std::move(vm->vm), &context, response, std::move(reply)});
  }
  for (const Estimate& estimate : unwanted) {
    estimate.reply(estimate.context->CheckAlive());
  }
  if (run) RunEstimate();
}

std::deque<WorkingSetHandler::Estimate>::iterator
WorkingSetHandler::NextEstimate() {
  return std::find_if(estimates_.begin(), estimates_.end(),
                      [this](const Estimate& estimate) {
                        mutex_.AssertHeld();
                        return !scanned_.contains(estimate.vm.get());
                      });
}

void WorkingSetHandler::RunEstimate() {
  std::shared_ptr<Vm> vm;
  {
    absl::MutexLock lock(&mutex_);
    const auto next = NextEstimate();
    if (next == estimates_.end()) {
      --runners_;
      return;
    }
    vm = next->vm;
    scanned_.insert(vm.get());
  }
  const auto is_unwanted = [&] {
    absl::MutexLock lock(&mutex_);
    return std::none_of(
        estimates_.begin(), estimates_.end(), [&](const Estimate& estimate) {
          return estimate.vm == vm && !estimate.context->cancelled();
        });
  };
  const absl::StatusOr<WorkingSet> answer = vm->EstimateWorkingSet(
      {.time = absl::InfiniteDuration(), .cancelled = is_unwanted});
  if (answer.ok()) newest_->Put(vm, *answer);
  // Somebody may have come to want it in the meantime.
  const bool given_up = absl::IsCancelled(answer.status());
  std::deque<Estimate> answered;
  bool more = false;
  {
    absl::MutexLock lock(&mutex_);
    answered = Take([&](const Estimate& estimate) {
      return estimate.context->cancelled() || (estimate.vm == vm && !given_up);
    });
    scanned_.erase(vm.get());
    more = NextEstimate() != estimates_.end();
    if (!more) --runners_;
  }
  AnswerAll(std::move(answered), answer);
  // Other work of the executor comes between.
  if (!more || executor_.Continue({.lane = Executor::Lane::kBulk},
                                  [this] { RunEstimate(); })) {
    return;
  }
  std::deque<Estimate> rest;
  {
    absl::MutexLock lock(&mutex_);
    --runners_;
    rest = Take([this](const Estimate& estimate) {
      mutex_.AssertHeld();
      return !scanned_.contains(estimate.vm.get());
    });
  }
  AnswerAll(std::move(rest), DrainingError());
}

std::deque<WorkingSetHandler::Estimate> WorkingSetHandler::Take(
    absl::FunctionRef<bool(const Estimate&)> wanted) {
  std::deque<Estimate> taken;
  std::deque<Estimate> kept;
  for (Estimate& estimate : estimates_) {
    (wanted(estimate) ? taken : kept).push_back(std::move(estimate));
  }
  estimates_ = std::move(kept);
  return taken;
}

void WorkingSetHandler::AnswerAll(std::deque<Estimate> estimates,
                                  const absl::StatusOr<WorkingSet>& answer) {
  for (const Estimate& estimate : estimates) {
    // Says why nobody wants it, where the engine knows only that.
    absl::Status status = estimate.context->CheckAlive();
    if (status.ok()) status = answer.status();
    if (status.ok()) {
      for (const WorkingSetBucket& bucket : answer->buckets) {
        estimate.context->AddWork(bucket.frame_count);
      }
      ToProto(*answer, estimate.response->mutable_working_set());
    }
    estimate.reply(status);
  }
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
  return std::make_unique<WatchSource>(std::move(vm), watcher, newest_);
}

}  // namespace tdp::server
