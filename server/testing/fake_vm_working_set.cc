#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/testing/fake_vm.h"

namespace tdp::server {

WorkingSet FakeVm::WorkingSetNow() const {
  absl::MutexLock lock(&mutex_);
  return {
      .scan_time = absl::Now(),
      .buckets = {{absl::ZeroDuration(), static_cast<int64_t>(mapped_.size())},
                  {absl::Milliseconds(limits::kMinScanIntervalMs), 0}}};
}

absl::StatusOr<WorkingSet> FakeVm::EstimateWorkingSet(
    const WorkBudget& budget) {
  EstimateHook hook;
  {
    absl::MutexLock lock(&mutex_);
    hook = estimate_hook_;
  }
  if (hook) return hook(budget);
  if (budget.cancelled && budget.cancelled()) {
    return MakeError(ErrorReason::kCancelled, "the scan was given up");
  }
  return WorkingSetNow();
}

absl::StatusOr<int64_t> FakeVm::AddWorkingSetWatcher(
    absl::Duration interval, std::function<void()> wake) {
  if (interval < absl::Milliseconds(limits::kMinScanIntervalMs) ||
      interval > absl::Milliseconds(limits::kMaxScanIntervalMs)) {
    return FieldError("interval", absl::FormatDuration(interval),
                      "between 100ms and 1h");
  }
  WorkingSet set = WorkingSetNow();
  absl::MutexLock lock(&listener_mutex_);
  watchers_.emplace(next_listener_,
                    Watcher{interval, std::move(wake), std::move(set)});
  return next_listener_++;
}

absl::StatusOr<WorkingSetUpdate> FakeVm::ReadWorkingSet(int64_t watcher_id) {
  WorkingSetUpdate update;
  {
    absl::MutexLock lock(&mutex_);
    update.closed = closed_;
  }
  absl::MutexLock lock(&listener_mutex_);
  const auto found = watchers_.find(watcher_id);
  if (found == watchers_.end()) return WorkingSetUpdate{.closed = true};
  std::optional<absl::StatusOr<WorkingSet>> unread =
      std::exchange(found->second.unread, std::nullopt);
  if (unread.has_value()) {
    if (!unread->ok()) return unread->status();
    update.working_set = **std::move(unread);
  }
  return update;
}

void FakeVm::RemoveWorkingSetWatcher(int64_t watcher_id) {
  absl::MutexLock lock(&listener_mutex_);
  watchers_.erase(watcher_id);
}

void FakeVm::SetEstimateHookForTest(EstimateHook hook) {
  absl::MutexLock lock(&mutex_);
  estimate_hook_ = std::move(hook);
}

void FakeVm::AnswerWatchersForTest(const absl::StatusOr<WorkingSet>& answer) {
  absl::MutexLock lock(&listener_mutex_);
  for (auto& [id, watcher] : watchers_) {
    watcher.unread.emplace(answer);
    watcher.wake();
  }
}

std::vector<absl::Duration> FakeVm::WatcherIntervalsForTest() const {
  absl::MutexLock lock(&listener_mutex_);
  std::vector<absl::Duration> intervals;
  for (const auto& [id, watcher] : watchers_) {
    intervals.push_back(watcher.interval);
  }
  return intervals;
}

}  // namespace tdp::server
