#include "engine/sync/held_locks.h"

#include "absl/base/internal/raw_logging.h"
#include "engine/sync/rcu_internal.h"

#ifndef NDEBUG
namespace tdp::sync_internal {
namespace {

struct HeldLock {
  const void* lock;
  HoldMode mode;
};
// Far more than any operation needs.
constexpr int kMaxHeldLocks = 8;
constinit thread_local HeldLock t_held[kMaxHeldLocks] = {};
constinit thread_local int t_held_count = 0;

HeldLock* FindHeld(const void* lock) {
  for (int i = 0; i < t_held_count; ++i) {
    if (t_held[i].lock == lock) return &t_held[i];
  }
  return nullptr;
}

}  // namespace

void CheckMayAcquire(const void* lock) {
  ABSL_RAW_CHECK(FindHeld(lock) == nullptr, "MmuLock is not recursive");
  ABSL_RAW_CHECK(t_held_count < kMaxHeldLocks, "too many MmuLocks held");
  ABSL_RAW_CHECK(!InRcuReadSection(),
                 "MmuLock acquired inside an RCU read section");
}

void NoteAcquired(const void* lock, HoldMode mode) {
  t_held[t_held_count++] = {lock, mode};
}

void NoteReleased(const void* lock, HoldMode mode) {
  HeldLock* held = FindHeld(lock);
  ABSL_RAW_CHECK(held != nullptr && held->mode == mode,
                 "MmuLock released that is not held in this mode");
  *held = t_held[--t_held_count];
}

void CheckHeld(const void* lock, HoldMode mode) {
  const HeldLock* held = FindHeld(lock);
  ABSL_RAW_CHECK(held != nullptr &&
                     (held->mode == mode || held->mode == HoldMode::kExclusive),
                 "MmuLock is not held in the mode needed");
}

void CheckMayWaitForReaders() {
  ABSL_RAW_CHECK(t_held_count == 0, "waits for readers under an MmuLock");
  ABSL_RAW_CHECK(!InRcuReadSection(),
                 "waits for readers inside an RCU read section");
}

}  // namespace tdp::sync_internal
#endif  // NDEBUG
