// The trees of a VM: what a root is, who keeps it, and which there are.
//
// A RootSet is published under RCU and never changed: a change publishes a new
// set. So a reader in an RCU read section has a consistent list. Who leaves the
// section and goes on with a root takes a reference to it inside.
//
// Life of a root: made valid, with one reference that is the MMU's own; made
// invalid, when that reference passes to whoever zaps the root; zapped, which
// drops it; and with the last reference out of the set. (Linux
// arch/x86/kvm/mmu/tdp_mmu.c, kvm_tdp_mmu_{alloc,put,invalidate_all}_root.)
//
// Invariants: the valid root comes first. Ids are never reused. A root of the
// set that is valid, or not zapped yet, has a reference.

#ifndef ENGINE_MMU_ROOT_SET_H_
#define ENGINE_MMU_ROOT_SET_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "engine/mmu/leaf_directory.h"
#include "engine/paging/tdp_iterator.h"
#include "engine/sync/rcu.h"

namespace tdp {

// The properties that make two roots interchangeable. Only one combination is
// in use today: address space 0, direct.
struct RootRole {
  PageLevel level = PageLevel::k512G;
  int address_space_id = 0;
  bool invalid = false;

  friend bool operator==(const RootRole&, const RootRole&) = default;
};

// What all copies of a TdpRoot share.
struct RootState {
  RcuHead rcu;
  std::atomic<int64_t> references{1};
  // Invalidated, and not zapped to its end. Set before the root set that says
  // so is published; then for the holder of zap_roots_mutex_.
  std::atomic<bool> to_be_zapped{false};

  // False if the last reference is gone. REQUIRES: an RCU read section in which
  // the root was found, or a reference.
  [[nodiscard]] bool TryGet() {
    // Relaxed: a reference orders nothing but the end, see Put().
    int64_t count = references.load(std::memory_order_relaxed);
    while (count != 0) {
      if (references.compare_exchange_weak(count, count + 1,
                                           std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }
  // True if this was the last one.
  [[nodiscard]] bool Put() {
    // What was done with the root happens before its end.
    return references.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  static void Reclaim(RcuHead* head) {
    delete reinterpret_cast<RootState*>(head);
  }
};

struct TdpRoot {
  int64_t id = 0;
  RootRole role;
  PageTable* table = nullptr;
  LeafDirectory* directory = nullptr;
  RootState* state = nullptr;

  TdpTree tree() const { return {table, role.level}; }
};

struct RootSet {
  RcuHead rcu;
  std::vector<TdpRoot> roots;

  const TdpRoot& valid() const { return roots.front(); }
  bool HasInvalid() const { return roots.size() > 1; }

  static void Reclaim(RcuHead* head) {
    delete reinterpret_cast<RootSet*>(head);
  }
};

}  // namespace tdp

#endif  // ENGINE_MMU_ROOT_SET_H_
