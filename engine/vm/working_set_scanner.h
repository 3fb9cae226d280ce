// WorkingSetScanner: runs the scans of a VM's working set, one at a time, for
// all who watch it and all who ask once.
//
// It has a thread only while somebody watches. What scans keep is released when
// the last watcher goes, but not before an hour has passed since somebody asked
// once: who asks again and again learns ages, too.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_VM_WORKING_SET_SCANNER_H_
#define ENGINE_VM_WORKING_SET_SCANNER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/sync/mutex.h"
#include "engine/vm/vm_types.h"
#include "engine/vm/working_set.h"

namespace tdp {

class WorkingSetScanner {
 public:
  using StopCheck = absl::FunctionRef<bool()>;

  // For so long after Estimate() what scans keep is not released.
  static constexpr absl::Duration kKept = absl::Hours(1);

  struct Options {
    // Scans, in the time since it begins; any status once it found that it
    // should stop. Never called twice at a time, nor beside `release`.
    std::function<absl::StatusOr<WorkingSet>(absl::Duration start, StopCheck)>
        scan;
    // Gives back what scans keep.
    std::function<void()> release;
    // A monotonic clock.
    std::function<absl::Duration()> now = MonotonicTime;
  };

  explicit WorkingSetScanner(Options options) : options_(std::move(options)) {}
  ~WorkingSetScanner() { Stop(); }
  WorkingSetScanner(const WorkingSetScanner&) = delete;
  WorkingSetScanner& operator=(const WorkingSetScanner&) = delete;

  // `wake` is called from any thread when there is something to read; it must
  // not block or use the scanner. LIMIT_REACHED if the host gives no thread.
  // REQUIRES: an interval of kMinScanInterval to kMaxScanInterval.
  absl::StatusOr<int64_t> AddWatcher(absl::Duration interval,
                                     std::function<void()> wake);
  absl::StatusOr<WorkingSetUpdate> Read(int64_t id);
  // Afterwards `wake` is not running and will not run. Does not wait for a
  // scan.
  void RemoveWatcher(int64_t id);

  // The answer of the scan that is under way, or of one that it runs itself as
  // soon as it may. CANCELLED if `cancelled` says so or after Stop().
  absl::StatusOr<WorkingSet> Estimate(const std::function<bool()>& cancelled);
  // Releases what scans keep, if it is time. True if nothing is left to do
  // here: the last watcher does it, or there is nothing.
  bool ReleaseIfUnused();

  // Ends scans and the thread. Watchers find that they are closed. One thread
  // at a time may call this.
  void Stop();

 private:
  static absl::Duration MonotonicTime();

  void Loop();
  // Both release mutex_ meanwhile. REQUIRES: !busy_.
  absl::StatusOr<WorkingSet> Scan(StopCheck stop)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsHeld() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return last_estimate_.has_value() &&
           options_.now() < *last_estimate_ + kKept;
  }

  const Options options_;
  Mutex mutex_;
  CondVar changed_;
  WorkingSetWatchers watchers_ ABSL_GUARDED_BY(mutex_);
  // A scan or a release runs.
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  // Something was scanned since the last release.
  bool keeps_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t scan_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of the last scan, unless it was told to stop.
  std::optional<absl::StatusOr<WorkingSet>> last_answer_
      ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Duration> last_estimate_ ABSL_GUARDED_BY(mutex_);
  bool has_thread_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // changed under mutex_, until stopped_
};

}  // namespace tdp

#endif  // ENGINE_VM_WORKING_SET_SCANNER_H_
