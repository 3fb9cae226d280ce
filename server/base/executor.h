// Executor: a fixed set of threads and bounded queues for the work that must
// not run on a thread that serves other calls.
//
// There are two lanes, each with threads and a queue of its own. Bulk work runs
// at a lower priority, so that it leaves the processor to everybody else. What
// makes threads belongs into the control lane: threads inherit the priority of
// the one that makes them, and a daemon without privileges cannot raise it.
//
// Within a lane peers take turns. New work is refused when the queue is full of
// it, or its peer's part; a 256th is every peer's own, whatever others queue.
// The continuation of work that was let in before is never refused and fills
// nobody's part, because the number of calls bounds it.
//
// Thread safety: all methods, from any thread. Shutdown() not from a task.

#ifndef SERVER_BASE_EXECUTOR_H_
#define SERVER_BASE_EXECUTOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/base/fair_queue.h"

namespace tdp::server {

class Executor {
 public:
  enum class Lane {
    kControl,  // at the daemon's own priority
    kBulk,     // below it
  };
  enum class Admission { kAccepted, kQueueFull, kPeerQueueFull, kShutDown };

  struct Options {
    // Of each lane.
    int thread_count = 4;
    // New work that waits.
    size_t max_queued = 1024;
    size_t max_queued_per_peer = 1024;
    // What the threads of the bulk lane add to the daemon's nice value.
    int bulk_nice = 0;
  };

  // Whose work it is, and where it runs.
  struct Place {
    Lane lane = Lane::kControl;
    uint64_t peer = 0;
  };

  explicit Executor(const Options& options);
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  ~Executor();

  // Queues new work, or says why not.
  [[nodiscard]] Admission Submit(Place place, FairQueue::Task task);
  // Queues the next step of work that was let in. False only after Shutdown().
  [[nodiscard]] bool Continue(Place place, FairQueue::Task task);
  // The same in the control lane, for nobody.
  [[nodiscard]] bool TryPost(FairQueue::Task task) {
    return Submit({}, std::move(task)) == Admission::kAccepted;
  }
  [[nodiscard]] bool Post(FairQueue::Task task) {
    return Continue({}, std::move(task));
  }

  // Runs what is queued, then ends the threads. Idempotent.
  void Shutdown();

  int thread_count() const { return options_.thread_count; }
  // Tasks of all kinds, in both lanes.
  size_t queued_count() const;
  size_t max_queued() const { return options_.max_queued; }
  size_t max_queued_per_peer() const { return options_.max_queued_per_peer; }

 private:
  // A lane's part. The lanes share nothing: a thread of low priority that is
  // preempted with a lock must not hold up the other lane.
  struct LaneState {
    mutable absl::Mutex mutex;
    FairQueue queue ABSL_GUARDED_BY(mutex);
    bool shut_down ABSL_GUARDED_BY(mutex) = false;

    bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
      return !queue.empty() || shut_down;
    }
  };

  LaneState& StateOf(Lane lane) {
    return lane == Lane::kControl ? control_ : bulk_;
  }
  static void RunThread(LaneState& lane);

  const Options options_;
  LaneState control_;
  LaneState bulk_;
  absl::Mutex join_mutex_;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(join_mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_BASE_EXECUTOR_H_
