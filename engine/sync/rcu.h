// Read-copy-update: readers that lock nothing, and removed objects that are
// reclaimed only when no reader can still see them.
//
// liburcu has one grace period for the whole process. An RcuDomain adds to it
// what it lacks: an exact count of what is retired and not yet reclaimed, and a
// bound on it. call_rcu() itself has no back-pressure.
//
// Thread safety: all methods, from any thread; a thread registers itself with
// liburcu at its first use and unregisters when it ends.
//
// Invariants: retired_bytes() and retired_count() cover every object from
// before Retire() returns until its reclaim function has returned.

#ifndef ENGINE_SYNC_RCU_H_
#define ENGINE_SYNC_RCU_H_

#include <atomic>
#include <cassert>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "engine/base/test_hooks.h"
#include "engine/sync/mutex.h"
#include "engine/sync/rcu_internal.h"
#include "engine/sync/tsan_annotations.h"

namespace tdp {

class RcuDomain;

// What an object needs to be retired: embed one. It is in use from Retire()
// until the object is reclaimed; before and after, it means nothing.
struct RcuHead {
 private:
  friend class RcuDomain;
  rcu_head node_;
  RcuDomain* domain_;
  int64_t bytes_;
  void (*reclaim_)(RcuHead*);
};

class ABSL_LOCKABLE RcuDomain {
 public:
  explicit RcuDomain(int64_t max_retired_bytes);
  // Waits until everything that was retired is reclaimed.
  // REQUIRES: as Barrier(), and nobody retires any more but reclaim functions.
  ~RcuDomain();
  RcuDomain(const RcuDomain&) = delete;
  RcuDomain& operator=(const RcuDomain&) = delete;

  // Calls `reclaim(head)` on liburcu's thread once every read section that is
  // open now has ended. Never waits; may be called in a read section, under
  // any lock, and by `reclaim` itself. `reclaim` must not wait for readers.
  // REQUIRES: no new reader can reach the object.
  void Retire(RcuHead* head, int64_t bytes, void (*reclaim)(RcuHead*));

  // Retired and not yet reclaimed.
  int64_t retired_bytes() const {
    // Relaxed: a number, which orders nothing.
    return retired_bytes_.load(std::memory_order_relaxed);
  }
  int64_t retired_count() const {
    return retired_count_.load(std::memory_order_relaxed);
  }
  bool OverLimit() const { return retired_bytes() > max_retired_bytes_; }

  // The back-pressure: whoever retires calls this where it owns nothing. One
  // reader that never leaves makes it wait for ever.
  // REQUIRES: outside read sections, no MmuLock and no frozen entry held.
  void WaitUntilUnderLimit();
  // Waits until every read section that is open now has ended.
  // REQUIRES: as WaitUntilUnderLimit().
  void Synchronize();
  // Waits until everything retired before this call is reclaimed.
  // REQUIRES: as WaitUntilUnderLimit(); not in a reclaim function.
  void Barrier();

  // False if the kernel refuses membarrier(2). Then read sections work but
  // cost about twenty times as much.
  static bool UsesMembarrier();

  // This thread is in a read section, of whatever domain.
  static bool InReadSection() { return sync_internal::InRcuReadSection(); }
  // Checked in debug builds; in all builds it tells the analysis.
  void AssertReadSection() const ABSL_ASSERT_SHARED_LOCK() {
    assert(InReadSection());
  }

 private:
  friend class RcuReadGuard;
  struct BarrierMark;

  static void OnGracePeriod(rcu_head* node);
  static void OnBarrier(rcu_head* node);
  void OnReclaimed(int64_t bytes);

  const int64_t max_retired_bytes_;
  std::atomic<int64_t> retired_bytes_{0};
  std::atomic<int64_t> retired_count_{0};
  // Threads in WaitUntilUnderLimit(). Written under mu_, read without it.
  std::atomic<int> limit_waiters_{0};
  Mutex mu_;
  CondVar changed_;  // under limit again, or a barrier was reached

  // ThreadSanitizer's stand-in for the grace period.
  char grace_period_ = 0;
};

// A read section: what is reachable inside it is not reclaimed before its end.
// Nests. No blocking, no MmuLock and no host call inside.
class ABSL_SCOPED_LOCKABLE RcuReadGuard {
 public:
  explicit RcuReadGuard(RcuDomain& domain) ABSL_SHARED_LOCK_FUNCTION(domain)
      : domain_(domain),
        unfenced_((test_hooks::BeforeStep(TestStep::kReadSectionBegin, &domain),
                   sync_internal::EnterReadSection())) {}
  ~RcuReadGuard() ABSL_UNLOCK_FUNCTION() {
    test_hooks::BeforeStep(TestStep::kReadSectionEnd, &domain_);
    sync_internal::TsanRelease(&domain_.grace_period_);
    sync_internal::LeaveReadSection(unfenced_);
    test_hooks::AfterReadSection();
  }
  RcuReadGuard(const RcuReadGuard&) = delete;
  RcuReadGuard& operator=(const RcuReadGuard&) = delete;

 private:
  RcuDomain& domain_;
  const bool unfenced_;
};

}  // namespace tdp

#endif  // ENGINE_SYNC_RCU_H_
