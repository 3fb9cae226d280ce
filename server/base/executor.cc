#include "server/base/executor.h"

#include <pthread.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace tdp::server {

Executor::Executor(const Options& options) : options_(options) {
  absl::MutexLock lock(&join_mutex_);
  for (int i = 0; i < options_.thread_count; ++i) {
    threads_.emplace_back([this, i] {
      pthread_setname_np(pthread_self(), absl::StrCat("tdpd-exec-", i).c_str());
      RunThread();
    });
  }
}

Executor::~Executor() { Shutdown(); }

bool Executor::TryPost(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (shut_down_ || queue_.size() >= options_.max_queued) return false;
  queue_.push_back(std::move(task));
  return true;
}

bool Executor::Post(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (shut_down_) return false;
  queue_.push_back(std::move(task));
  return true;
}

void Executor::Shutdown() {
  {
    absl::MutexLock lock(&mutex_);
    shut_down_ = true;
  }
  absl::MutexLock lock(&join_mutex_);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Executor::RunThread() {
  while (true) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mutex_, absl::Condition(this, &Executor::HasWork));
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

}  // namespace tdp::server
