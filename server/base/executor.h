// Executor: a fixed set of threads and one bounded queue for the work that must
// not run on a thread that serves other calls.
//
// New work is refused when the queue is full; the continuation of work that was
// let in before never is, because the number of calls bounds it.
//
// Thread safety: all methods, from any thread. Shutdown() not from a task.

#ifndef SERVER_BASE_EXECUTOR_H_
#define SERVER_BASE_EXECUTOR_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tdp::server {

class Executor {
 public:
  struct Options {
    int thread_count = 4;
    size_t max_queued = 1024;
  };

  explicit Executor(const Options& options);
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  ~Executor();

  // Queues new work. False, with nothing queued, if the queue is full or the
  // executor is shut down.
  [[nodiscard]] bool TryPost(std::function<void()> task);
  // Queues the next step of work that was let in. False only after Shutdown().
  [[nodiscard]] bool Post(std::function<void()> task);

  // Runs what is queued, then ends the threads. Idempotent.
  void Shutdown();

  int thread_count() const { return options_.thread_count; }
  size_t queued_count() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return queue_.size();
  }
  size_t max_queued() const { return options_.max_queued; }

 private:
  void RunThread();
  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return !queue_.empty() || shut_down_;
  }

  const Options options_;
  mutable absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Mutex join_mutex_;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(join_mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_BASE_EXECUTOR_H_
