// MmuLock: the reader-writer lock of a VM's page tables. Made for readers that
// hold it for a hundred nanoseconds and writers that are rare: an uncontended
// reader writes no shared cache line, a writer pays a membarrier.
//
// Order: a writer goes before readers that come after it; the readers that
// waited for a writer go, together, before the next writer. So neither starves.
// Waiting threads sleep.
//
// Thread safety: all methods, from any thread; who locks, unlocks. Not
// recursive, in any mode, and never acquired inside an RCU read section; no
// grace period is waited for while it is held. Debug builds check all three.
//
// Invariants: a thread that has unlocked does not touch the lock any more.

#ifndef ENGINE_SYNC_MMU_LOCK_H_
#define ENGINE_SYNC_MMU_LOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "engine/base/test_hooks.h"
#include "engine/sync/held_locks.h"
#include "engine/sync/mutex.h"
#include "engine/sync/reader_slots.h"

namespace tdp {

class ABSL_LOCKABLE MmuLock {
 public:
  MmuLock() = default;
  MmuLock(const MmuLock&) = delete;
  MmuLock& operator=(const MmuLock&) = delete;

  void ReaderLock() ABSL_SHARED_LOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    test_hooks::BeforeStep(TestStep::kReaderLock, this);
    sync_internal::CheckMayAcquire(this);
    if (!readers_.TryEnter(state_)) [[unlikely]]
      ReaderLockSlow();
    sync_internal::NoteAcquired(this, sync_internal::HoldMode::kShared);
  }
  void ReaderUnlock() ABSL_UNLOCK_FUNCTION() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    test_hooks::BeforeStep(TestStep::kReaderUnlock, this);
    sync_internal::NoteReleased(this, sync_internal::HoldMode::kShared);
    readers_.Leave();
  }

  void WriterLock() ABSL_EXCLUSIVE_LOCK_FUNCTION();
  void WriterUnlock() ABSL_UNLOCK_FUNCTION();

  // Somebody waits for what the caller holds: a writer, or, if the caller is
  // the writer, anybody. The caller should finish a step and let go.
  // REQUIRES: the caller holds the lock, in either mode.
  bool IsContended() const {
    if (test_hooks::ForcesYield()) return true;
    // Relaxed: a hint. A waiter that is missed is seen at the next look.
    const uint32_t state = state_.load(std::memory_order_relaxed);
    return (state & kHeldByWriter) ? (state & kHasWaiters) != 0 : state != 0;
  }

  // Checked in debug builds; in all builds they tell the analysis.
  void AssertReaderHeld() const ABSL_ASSERT_SHARED_LOCK() {
    sync_internal::CheckHeld(this, sync_internal::HoldMode::kShared);
  }
  void AssertWriterHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {
    sync_internal::CheckHeld(this, sync_internal::HoldMode::kExclusive);
  }

  // How often writers have held the lock, and for how long in all. A hold that
  // goes on is in neither.
  struct WriterHolds {
    int64_t count = 0;
    int64_t nanoseconds = 0;
  };
  WriterHolds writer_holds() const;

  // Threads asleep in, or about to sleep in, ReaderLock() and WriterLock(). A
  // writer that waits for readers to leave does not count.
  int WaitingReadersForTest();
  int WaitingWritersForTest();

 private:
  // The gate of readers_: closed while a writer holds or wants the lock.
  static constexpr uint32_t kWriterPresent = 1 << 0;
  static constexpr uint32_t kHeldByWriter = 1 << 1;
  static constexpr uint32_t kHasWaiters = 1 << 2;

  void ReaderLockSlow();
  void PublishState() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Derived from what mu_ guards; written under mu_, read without it.
  std::atomic<uint32_t> state_{0};
  // Those who hold the lock for reading. Own synchronization.
  sync_internal::ReaderPresence readers_;

  Mutex mu_;
  CondVar writer_left_;
  CondVar readers_admitted_;
  // A writer is the one to hold the lock, now or when the readers have left.
  bool writer_chosen_ ABSL_GUARDED_BY(mu_) = false;
  bool writer_holds_ ABSL_GUARDED_BY(mu_) = false;
  int waiting_writers_ ABSL_GUARDED_BY(mu_) = 0;
  int waiting_readers_ ABSL_GUARDED_BY(mu_) = 0;
  // Counts the times that all waiting readers were admitted.
  uint64_t admissions_ ABSL_GUARDED_BY(mu_) = 0;

  int64_t held_since_ = 0;  // the writer's
  // Written under mu_. Relaxed: statistics, which order nothing.
  std::atomic<int64_t> writer_hold_count_{0};
  std::atomic<int64_t> writer_hold_nanoseconds_{0};
};

class ABSL_SCOPED_LOCKABLE MmuReadGuard {
 public:
  explicit MmuReadGuard(MmuLock& lock) ABSL_SHARED_LOCK_FUNCTION(lock)
      : lock_(lock) {
    lock_.ReaderLock();
  }
  ~MmuReadGuard() ABSL_UNLOCK_FUNCTION() { lock_.ReaderUnlock(); }
  MmuReadGuard(const MmuReadGuard&) = delete;
  MmuReadGuard& operator=(const MmuReadGuard&) = delete;

 private:
  MmuLock& lock_;
};

class ABSL_SCOPED_LOCKABLE MmuWriteGuard {
 public:
  explicit MmuWriteGuard(MmuLock& lock) ABSL_EXCLUSIVE_LOCK_FUNCTION(lock)
      : lock_(lock) {
    lock_.WriterLock();
  }
  ~MmuWriteGuard() ABSL_UNLOCK_FUNCTION() { lock_.WriterUnlock(); }
  MmuWriteGuard(const MmuWriteGuard&) = delete;
  MmuWriteGuard& operator=(const MmuWriteGuard&) = delete;

 private:
  MmuLock& lock_;
};

}  // namespace tdp

#endif  // ENGINE_SYNC_MMU_LOCK_H_
