#include "engine/vm/task_thread.h"

#include <utility>

#include "absl/time/clock.h"
#include "engine/sync/thread.h"

namespace tdp {

absl::Status TaskThread::Start(const char* name) {
  return StartThread(name, [this] { Loop(); }, &thread_);
}

void TaskThread::Stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void TaskThread::RunAt(absl::Time time, std::function<void()> task) {
  MutexLock lock(mutex_);
  tasks_.emplace(time, std::move(task));
  changed_.NotifyAll();
}

void TaskThread::Loop() {
  for (;;) {
    std::function<void()> task;
    {
      MutexLock lock(mutex_);
      while (!stop_ &&
             (tasks_.empty() || tasks_.begin()->first > absl::Now())) {
        if (tasks_.empty()) {
          changed_.Wait(mutex_);
        } else {
          changed_.WaitUntil(mutex_, tasks_.begin()->first);
        }
      }
      if (stop_) return;
      task = std::move(tasks_.begin()->second);
      tasks_.erase(tasks_.begin());
    }
    task();
  }
}

}  // namespace tdp
