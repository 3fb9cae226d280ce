// RootSet: the trees of a VM at one instant. One root is valid; the others were
// invalidated and are still being zapped.
//
// Published under RCU and never changed: a change publishes a new set. So a
// reader in an RCU read section has a consistent list, and a walk that left its
// section finds its root again by id, or learns that it is gone.
//
// Invariants: the valid root comes first. Ids are never reused.

#ifndef ENGINE_MMU_ROOT_SET_H_
#define ENGINE_MMU_ROOT_SET_H_

#include <cstdint>
#include <vector>

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

struct TdpRoot {
  int64_t id = 0;
  RootRole role;
  PageTable* table = nullptr;

  TdpTree tree() const { return {table, role.level}; }
};

struct RootSet {
  RcuHead rcu;
  std::vector<TdpRoot> roots;

  const TdpRoot& valid() const { return roots.front(); }
  bool HasInvalid() const { return roots.size() > 1; }
  const TdpRoot* Find(int64_t id) const {
    for (const TdpRoot& root : roots) {
      if (root.id == id) return &root;
    }
    return nullptr;
  }

  static void Reclaim(RcuHead* head) {
    delete reinterpret_cast<RootSet*>(head);
  }
};

}  // namespace tdp

#endif  // ENGINE_MMU_ROOT_SET_H_
