// TaskThread: one thread that runs tasks in the order of their times.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_VM_TASK_THREAD_H_
#define ENGINE_VM_TASK_THREAD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/sync/mutex.h"

namespace tdp {

class TaskThread {
 public:
  TaskThread() = default;
  ~TaskThread() { Stop(); }
  TaskThread(const TaskThread&) = delete;
  TaskThread& operator=(const TaskThread&) = delete;

  // Until then tasks are kept. Once.
  absl::Status Start(const char* name);
  // Ends the thread after the task that runs now; drops the others, and every
  // later one. One thread at a time may call this.
  void Stop();

  // What a task is known by, until it begins.
  using TaskId = std::pair<absl::Time, int64_t>;

  void Run(std::function<void()> task) {
    RunAt(absl::InfinitePast(), std::move(task));
  }
  TaskId RunAt(absl::Time time, std::function<void()> task);
  // Drops a task that has not begun.
  void Cancel(const TaskId& task);

 private:
  void Loop();

  Mutex mutex_;
  CondVar changed_;
  std::map<TaskId, std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  int64_t next_number_ ABSL_GUARDED_BY(mutex_) = 1;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tdp

#endif  // ENGINE_VM_TASK_THREAD_H_
