// TdpMmuPeer: what tests see and do inside a TdpMmu.
//
// Thread safety: as TdpMmu, where a method does not say otherwise.

#ifndef ENGINE_TESTING_TDP_MMU_PEER_H_
#define ENGINE_TESTING_TDP_MMU_PEER_H_

#include <vector>

#include "engine/mmu/tdp_mmu.h"

namespace tdp {

class TdpMmuPeer {
 public:
  // The roots as they are now, the valid one first. Their tables live until
  // the roots are zapped.
  static std::vector<TdpRoot> Roots(const TdpMmu& mmu);
  // An entry that covers the frame is FROZEN in some root.
  static bool IsFrozen(const TdpMmu& mmu, Gfn gfn);

  // Installs a leaf of any level in the valid root and accounts for it, as
  // collapsing small leaves would. What the host maps is the caller's affair.
  // REQUIRES: no other thread uses the object; nothing is mapped there.
  static void InstallLeaf(TdpMmu& mmu, Gfn gfn, PageLevel level, Spte leaf);

  // The table that holds the last entry on the path to a frame in the valid
  // root. REQUIRES: an RCU read section.
  static PageTable* LastTable(const TdpMmu& mmu, Gfn gfn);

  // Makes the caller the owner of the last entry on the path to a frame of the
  // valid root, and lets it go. The caller wakes the sleepers.
  // REQUIRES: the entry is not FROZEN.
  class Owner {
   public:
    Owner(TdpMmu& mmu, Gfn gfn);
    ~Owner();
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;

   private:
    TdpMmu& mmu_;
    FrozenRun run_;
  };

  static MmuLock& Lock(TdpMmu& mmu) { return mmu.mmu_lock_; }
  static PageTablePool& Pool(TdpMmu& mmu) { return mmu.pool_; }
  static absl::Status Split(TdpMmu& mmu, Gfn gfn) {
    return mmu.SplitInValidRoot(gfn);
  }
};

}  // namespace tdp

#endif  // ENGINE_TESTING_TDP_MMU_PEER_H_
