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

TaskThread::TaskId TaskThread::RunAt(absl::Time time,
                                     std::function<void()> task) {
  MutexLock lock(mutex_);
  const TaskId id = {time, next_number_++};
  tasks_.emplace(id, std::move(task));
  changed_.NotifyAll();
  return id;
}

void TaskThread::Cancel(const TaskId& task) {
  std::function<void()> dropped;  // destroyed without the lock
  MutexLock lock(mutex_);
  const auto it = tasks_.find(task);
  if (it == tasks_.end()) return;
  dropped = std::move(it->second);
  tasks_.erase(it);
}

void TaskThread::Loop() {
  for (;;) {
    std::function<void()> task;
    {
      MutexLock lock(mutex_);
      while (!stop_ &&
             (tasks_.empty() || tasks_.begin()->first.first > absl::Now())) {
        if (tasks_.empty()) {
          changed_.Wait(mutex_);
        } else {
          changed_.WaitUntil(mutex_, tasks_.begin()->first.first);
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
