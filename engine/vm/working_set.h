// What a scan of the working set answers, and who gets to know it:
// IdleHistogram counts frames by idle age, WorkingSetWatchers says when the
// next scan is due and hands its answer out.
//
// Watchers share scans. The one with the shortest interval sets the pace; each
// gets the first scan that begins at least its interval after the last one it
// got. A new watcher gets the newest answer at once if it is not older than its
// interval, else a scan is due for it. Scans begin at least kMinScanInterval
// apart, and rest for as long as the last one took, given up or not: a scan
// that takes long does not take the whole processor. A watcher that does not
// read misses answers: it finds the newest.
//
// Times are those of one monotonic clock. Thread safety: external.

#ifndef ENGINE_VM_WORKING_SET_H_
#define ENGINE_VM_WORKING_SET_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/limits.h"
#include "engine/vm/vm_types.h"

namespace tdp {

inline constexpr absl::Duration kMinScanInterval =
    absl::Milliseconds(limits::kMinScanIntervalMs);
inline constexpr absl::Duration kMaxScanInterval =
    absl::Milliseconds(limits::kMaxScanIntervalMs);

// Frames by idle age, in the buckets that WorkingSet documents.
class IdleHistogram {
 public:
  // Bucket 0: used. Bucket i: idle for kMinScanInterval * 2^(i - 1) or longer,
  // up to the next bucket; the last one has no end.
  static constexpr int kBuckets = 19;

  // Lower bound of a bucket.
  static absl::Duration MinAge(int bucket) {
    return bucket == 0 ? absl::ZeroDuration()
                       : kMinScanInterval * (int64_t{1} << (bucket - 1));
  }

  void Add(absl::Duration age, int64_t frames);
  std::vector<WorkingSetBucket> buckets() const;

 private:
  std::array<int64_t, kBuckets> counts_{};
};

class WorkingSetWatchers {
 public:
  // `wake` is called when there is something to read, but not by Add() itself:
  // read after it.
  int64_t Add(absl::Duration interval, std::function<void()> wake,
              absl::Duration now);
  void Remove(int64_t id) { watchers_.erase(id); }
  bool empty() const { return watchers_.empty(); }

  // When the next scan may begin, watchers or not.
  absl::Duration EarliestScan() const { return earliest_scan_; }
  // When the next scan is due; never, without watchers.
  absl::Duration NextScan() const;
  // A scan ran from `start` to `end`, whether or not it answers.
  void Rest(absl::Duration start, absl::Duration end);
  // The scan that began at `start` answers.
  void Answer(absl::Duration start, const absl::StatusOr<WorkingSet>& answer);
  // No answer follows.
  void Close();

  // The newest answer that the watcher has not read. An error of the scan is
  // read like an answer. A watcher that is not there finds that it is closed.
  absl::StatusOr<WorkingSetUpdate> Read(int64_t id);

 private:
  struct Watcher {
    absl::Duration interval;
    std::function<void()> wake;
    // It gets the first scan that begins at this time or later.
    absl::Duration due;
    bool answered = false;
    std::optional<absl::StatusOr<WorkingSet>> unread = std::nullopt;

    void Take(absl::Duration start, const absl::StatusOr<WorkingSet>& answer) {
      unread.emplace(answer);
      answered = true;
      due = start + interval;
    }
  };

  std::map<int64_t, Watcher> watchers_;
  int64_t next_id_ = 1;
  bool closed_ = false;
  absl::Duration earliest_scan_ = -absl::InfiniteDuration();
  // The newest answer that is none of an error, and when its scan began.
  std::optional<WorkingSet> newest_;
  absl::Duration newest_start_;
};

}  // namespace tdp

#endif  // ENGINE_VM_WORKING_SET_H_
