// ReloadThread: looks after files that may change while the daemon runs.
//
// Thread safety: constructed and destroyed by one thread.

#ifndef SERVER_ACCESS_RELOAD_THREAD_H_
#define SERVER_ACCESS_RELOAD_THREAD_H_

#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tdp::server {

class ReloadThread {
 public:
  // Calls each of `refreshes` about twice a second. They outlive the thread.
  explicit ReloadThread(std::vector<std::function<void()>> refreshes);
  ReloadThread(const ReloadThread&) = delete;
  ReloadThread& operator=(const ReloadThread&) = delete;
  // Waits for a refresh that is under way.
  ~ReloadThread();

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::vector<std::function<void()>> refreshes_;
  absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_RELOAD_THREAD_H_
