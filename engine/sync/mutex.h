// Mutex, MutexLock and CondVar: the standard library's, with Clang's
// thread-safety annotations and a sanitizer that sees through them (Debian's
// absl::Mutex is built without instrumentation, so ThreadSanitizer cannot).
//
// Thread safety: all methods, from any thread. A Mutex is unlocked by the
// thread that locked it. CondVar may wake without a reason: wait in a loop.

#ifndef ENGINE_SYNC_MUTEX_H_
#define ENGINE_SYNC_MUTEX_H_

#include <atomic>
#include <cassert>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "engine/base/test_hooks.h"

namespace tdp {

class CondVar;

class ABSL_LOCKABLE Mutex {
 public:
  constexpr Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (test_hooks::IsScheduled()) {
      while (!mu_.try_lock()) test_hooks::LetOthersRun(TestStep::kWaitForMutex);
    } else {
      mu_.lock();
    }
    NoteHeld();
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    NoteReleased();
    mu_.unlock();
  }
  // True if the lock was free and is now held.
  [[nodiscard]] bool TryLock()
      ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (!mu_.try_lock()) return false;
    NoteHeld();
    return true;
  }
  // Checked in debug builds; in all builds it tells the analysis.
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {
#ifndef NDEBUG
    // Relaxed: only this thread ever stores its own tag, so it reads it if and
    // only if it holds the lock, whatever the other threads store.
    assert(holder_.load(std::memory_order_relaxed) == ThisThread());
#endif
  }

 private:
  friend class CondVar;

#ifndef NDEBUG
  static const void* ThisThread() {
    static constinit thread_local char tag = 0;
    return &tag;
  }
  // Relaxed: see AssertHeld().
  void NoteHeld() { holder_.store(ThisThread(), std::memory_order_relaxed); }
  void NoteReleased() {
    AssertHeld();
    holder_.store(nullptr, std::memory_order_relaxed);
  }
  std::atomic<const void*> holder_{nullptr};
#else
  void NoteHeld() {}
  void NoteReleased() {}
#endif

  std::mutex mu_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : mu_(mu) {
    mu_.Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mu_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mu_;
};

class CondVar {
 public:
  CondVar() = default;
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;

  void Wait(Mutex& mu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    if (test_hooks::IsScheduled()) {
      mu.Unlock();
      test_hooks::LetOthersRun(TestStep::kWaitForChange);
      mu.Lock();
      return;
    }
    Suspend(mu, [this](std::unique_lock<std::mutex>& lock) {
      cv_.wait(lock);
      return std::cv_status::no_timeout;
    });
  }
  // True if `deadline` has passed, by the system clock.
  bool WaitUntil(Mutex& mu, absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    if (deadline > absl::UnixEpoch() + kForever) return Wait(mu), false;
    const auto until = absl::ToChronoTime(deadline);
    return Suspend(mu, [&](std::unique_lock<std::mutex>& lock) {
             return cv_.wait_until(lock, until);
           }) == std::cv_status::timeout;
  }
  // True if `timeout` has passed, by the monotonic clock.
  bool WaitFor(Mutex& mu, absl::Duration timeout)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    if (timeout > kForever) return Wait(mu), false;
    const auto time = absl::ToChronoNanoseconds(timeout);
    return Suspend(mu, [&](std::unique_lock<std::mutex>& lock) {
             return cv_.wait_for(lock, time);
           }) == std::cv_status::timeout;
  }
  void NotifyOne() { cv_.notify_one(); }
  void NotifyAll() { cv_.notify_all(); }

 private:
  // Longer waits would overflow the standard library's clocks.
  static constexpr absl::Duration kForever = absl::Hours(24 * 365 * 100);

  template <typename Waiter>
  std::cv_status Suspend(Mutex& mu,
                         Waiter wait) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    mu.NoteReleased();
    std::unique_lock<std::mutex> lock(mu.mu_, std::adopt_lock);
    const std::cv_status status = wait(lock);
    lock.release();
    mu.NoteHeld();
    return status;
  }

  std::condition_variable cv_;
};

}  // namespace tdp

#endif  // ENGINE_SYNC_MUTEX_H_
