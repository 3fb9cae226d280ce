// Event: something that happens once, and that threads of a test wait for.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_TESTING_EVENT_H_
#define ENGINE_TESTING_EVENT_H_

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/sync/mutex.h"

namespace tdp::testing {

// A test that waits longer than this has lost a wake-up.
inline constexpr absl::Duration kTestPatience = absl::Seconds(10);

class Event {
 public:
  void Set() {
    MutexLock lock(mutex_);
    set_ = true;
    changed_.NotifyAll();
  }
  // False if it did not happen in time.
  [[nodiscard]] bool Wait(absl::Duration timeout = kTestPatience) {
    const absl::Time deadline = absl::Now() + timeout;
    MutexLock lock(mutex_);
    while (!set_) {
      if (changed_.WaitUntil(mutex_, deadline)) return set_;
    }
    return true;
  }
  bool IsSet() {
    MutexLock lock(mutex_);
    return set_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool set_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_EVENT_H_
