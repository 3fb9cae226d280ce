#include "engine/vm/working_set_scanner.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "engine/base/errors.h"
#include "engine/sync/thread.h"

namespace tdp {
namespace {

// How often somebody who waits asks whether it is still wanted.
constexpr absl::Duration kPoll = absl::Milliseconds(10);

absl::Status CancelledError() {
  return MakeError(ErrorReason::kCancelled,
                   "the scan of the working set was given up");
}

}  // namespace

absl::Duration WorkingSetScanner::MonotonicTime() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

absl::StatusOr<int64_t> WorkingSetScanner::AddWatcher(
    absl::Duration interval, std::function<void()> wake) {
  MutexLock lock(mutex_);
  const int64_t id = watchers_.Add(interval, std::move(wake), options_.now());
  changed_.NotifyAll();
  if (has_thread_ || stopped_) return id;
  // The one before has left the loop for good.
  if (thread_.joinable()) thread_.join();
  if (absl::Status s = StartThread(
          "tdpd-scanner", [this] { Loop(); }, &thread_);
      !s.ok()) {
    watchers_.Remove(id);
    return s;
  }
  has_thread_ = true;
  return id;
}

absl::StatusOr<WorkingSetUpdate> WorkingSetScanner::Read(int64_t id) {
  MutexLock lock(mutex_);
  return watchers_.Read(id);
}

void WorkingSetScanner::RemoveWatcher(int64_t id) {
  MutexLock lock(mutex_);
  watchers_.Remove(id);
  changed_.NotifyAll();
}

void WorkingSetScanner::Loop() {
  MutexLock lock(mutex_);
  while (!stopped_) {
    if (busy_) {
      changed_.Wait(mutex_);
      continue;
    }
    if (watchers_.empty()) {
      if (!keeps_ || IsHeld()) break;
      Release();
      continue;
    }
    const absl::Duration wait = watchers_.NextScan() - options_.now();
    if (wait > absl::ZeroDuration()) {
      changed_.WaitFor(mutex_, wait);
      continue;
    }
    (void)Scan([this] {
      MutexLock look(mutex_);
      return stopped_ || watchers_.empty();
    });
  }
  has_thread_ = false;
}

absl::StatusOr<WorkingSet> WorkingSetScanner::Scan(StopCheck stop) {
  busy_ = true;
  keeps_ = true;
  ++scan_count_;
  last_answer_.reset();
  mutex_.Unlock();
  const absl::Duration start = options_.now();
  bool told_to_stop = false;
  absl::StatusOr<WorkingSet> answer = options_.scan(start, [&] {
    told_to_stop = told_to_stop || stop();
    return told_to_stop;
  });
  const absl::Duration end = options_.now();
  mutex_.Lock();
  busy_ = false;
  watchers_.Rest(start, end);
  if (told_to_stop) {
    answer = CancelledError();
  } else {
    last_answer_.emplace(answer);
    watchers_.Answer(start, answer);
  }
  changed_.NotifyAll();
  return answer;
}

absl::StatusOr<WorkingSet> WorkingSetScanner::Estimate(
    const std::function<bool()>& cancelled) {
  const auto is_cancelled = [&] { return cancelled && cancelled(); };
  MutexLock lock(mutex_);
  for (;;) {
    if (stopped_ || is_cancelled()) return CancelledError();
    last_estimate_ = options_.now();
    if (busy_) {
      // Who runs the scan may be told to stop; then it is this one's turn.
      const int64_t scan = scan_count_;
      while (busy_ && scan == scan_count_ && !stopped_ && !is_cancelled()) {
        changed_.WaitFor(mutex_, kPoll);
      }
      if (scan == scan_count_ && last_answer_.has_value()) {
        return *last_answer_;
      }
      continue;
    }
    const absl::Duration wait = watchers_.EarliestScan() - options_.now();
    if (wait > absl::ZeroDuration()) {
      changed_.WaitFor(mutex_, std::min(wait, kPoll));
      continue;
    }
    return Scan([&] {
      if (is_cancelled()) return true;
      MutexLock look(mutex_);
      return stopped_;
    });
  }
}

void WorkingSetScanner::Release() {
  busy_ = true;
  keeps_ = false;
  last_answer_.reset();  // nobody has joined a scan
  mutex_.Unlock();
  options_.release();
  mutex_.Lock();
  busy_ = false;
  changed_.NotifyAll();
}

bool WorkingSetScanner::ReleaseIfUnused() {
  MutexLock lock(mutex_);
  if (stopped_) return true;
  if (IsHeld()) return false;
  // A watcher, or who is at it, sees to the rest.
  if (!keeps_ || !watchers_.empty() || busy_) return true;
  Release();
  return true;
}

void WorkingSetScanner::Stop() {
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    watchers_.Close();
    changed_.NotifyAll();
    while (busy_) changed_.Wait(mutex_);
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace tdp
