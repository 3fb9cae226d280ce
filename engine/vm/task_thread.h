// TaskThread: one thread that runs tasks in the order of their times.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_VM_TASK_THREAD_H_
#define ENGINE_VM_TASK_THREAD_H_

#include <functional>
#include <map>
#include <thread>

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

  void Run(std::function<void()> task) { RunAt(absl::InfinitePast(), task); }
  void RunAt(absl::Time time, std::function<void()> task);

 private:
  void Loop();

  Mutex mutex_;
  CondVar changed_;
  std::multimap<absl::Time, std::function<void()>> tasks_
      ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tdp

#endif  // ENGINE_VM_TASK_THREAD_H_
