#include "engine/sync/rcu.h"

#include <type_traits>

#include "engine/sync/held_locks.h"

namespace tdp {

using sync_internal::CheckMayWaitForReaders;
using sync_internal::EnsureRcuThread;
using sync_internal::TsanAcquire;
using sync_internal::TsanRelease;

struct RcuDomain::BarrierMark {
  rcu_head node;
  RcuDomain* domain;
  bool reached;  // guarded by domain->mu_
};

RcuDomain::RcuDomain(int64_t max_retired_bytes)
    : max_retired_bytes_(max_retired_bytes) {}

RcuDomain::~RcuDomain() {
  // A reclaim function may have retired more: once for each link of the chain.
  do {
    Barrier();
  } while (retired_count() > 0);
}

void RcuDomain::Retire(RcuHead* head, int64_t bytes,
                       void (*reclaim)(RcuHead*)) {
  static_assert(std::is_standard_layout_v<RcuHead>);
  head->domain_ = this;
  head->bytes_ = bytes;
  head->reclaim_ = reclaim;
  // Relaxed: the counts order nothing. They rise before the object can be
  // reclaimed, because reclaiming follows the hand-over below.
  retired_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  retired_count_.fetch_add(1, std::memory_order_relaxed);
  EnsureRcuThread();
  TsanRelease(head);
  test_hooks::BeforeStep(TestStep::kRetire, head);
  if (test_hooks::TakesRetired(&head->node_, [](void* node) {
        OnGracePeriod(static_cast<rcu_head*>(node));
      })) {
    return;
  }
  urcu_memb_call_rcu(&head->node_, &RcuDomain::OnGracePeriod);
}

// Runs on liburcu's worker, which liburcu has registered itself.
void RcuDomain::OnGracePeriod(rcu_head* node) {
  sync_internal::NoteRegisteredRcuThread();
  RcuHead* head = reinterpret_cast<RcuHead*>(node);
  TsanAcquire(head);
  RcuDomain* domain = head->domain_;
  TsanAcquire(&domain->grace_period_);
  const int64_t bytes = head->bytes_;
  head->reclaim_(head);
  domain->OnReclaimed(bytes);
}

// Dekker with WaitUntilUnderLimit(): bytes fall and then the waiters are read,
// a waiter counts itself and then reads the bytes, all sequentially consistent.
void RcuDomain::OnReclaimed(int64_t bytes) {
  // Relaxed: a number, which orders nothing.
  retired_count_.fetch_sub(1, std::memory_order_relaxed);
  const int64_t before =
      retired_bytes_.fetch_sub(bytes, std::memory_order_seq_cst);
  const bool crossed =
      before > max_retired_bytes_ && before - bytes <= max_retired_bytes_;
  if (!crossed || limit_waiters_.load(std::memory_order_seq_cst) == 0) return;
  MutexLock lock(mu_);
  changed_.NotifyAll();
}

void RcuDomain::WaitUntilUnderLimit() {
  CheckMayWaitForReaders();
  while (OverLimit() && test_hooks::WaitsForReaders()) {
  }
  if (!OverLimit()) return;
  MutexLock lock(mu_);
  limit_waiters_.fetch_add(1, std::memory_order_seq_cst);
  while (retired_bytes_.load(std::memory_order_seq_cst) > max_retired_bytes_) {
    changed_.Wait(mu_);
  }
  // Relaxed: a waker that still sees this waiter notifies in vain.
  limit_waiters_.fetch_sub(1, std::memory_order_relaxed);
}

void RcuDomain::Synchronize() {
  CheckMayWaitForReaders();
  if (test_hooks::WaitsForReaders()) return;
  urcu_memb_synchronize_rcu();
  TsanAcquire(&grace_period_);
}

// liburcu runs callbacks in the order of their call_rcu() on its one default
// worker, so a mark of our own, queued behind the others, tells that they ran.
// urcu_barrier() does the same, but ThreadSanitizer sees races inside it.
void RcuDomain::Barrier() {
  CheckMayWaitForReaders();
  EnsureRcuThread();
  if (test_hooks::WaitsForReaders()) return;
  BarrierMark mark = {.node = {}, .domain = this, .reached = false};
  TsanRelease(&mark);
  urcu_memb_call_rcu(&mark.node, &RcuDomain::OnBarrier);
  MutexLock lock(mu_);
  while (!mark.reached) changed_.Wait(mu_);
}

void RcuDomain::OnBarrier(rcu_head* node) {
  static_assert(std::is_standard_layout_v<BarrierMark>);
  BarrierMark* mark = reinterpret_cast<BarrierMark*>(node);
  TsanAcquire(mark);
  RcuDomain* domain = mark->domain;
  MutexLock lock(domain->mu_);
  mark->reached = true;
  domain->changed_.NotifyAll();
}

bool RcuDomain::UsesMembarrier() {
  return sync_internal::LibraryUsesMembarrier();
}

}  // namespace tdp
