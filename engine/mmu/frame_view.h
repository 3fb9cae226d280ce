// FrameView: a root as a walk to single frames sees it. Most walks find their
// leaf table in the root's directory; the others descend.
//
// Thread safety: belongs to one thread, in one RCU read section.

#ifndef ENGINE_MMU_FRAME_VIEW_H_
#define ENGINE_MMU_FRAME_VIEW_H_

#include "engine/base/types.h"
#include "engine/mmu/leaf_directory.h"
#include "engine/mmu/root_set.h"
#include "engine/paging/page_table.h"
#include "engine/paging/spte.h"
#include "engine/paging/tdp_iterator.h"

namespace tdp {

// One entry met by a walk.
struct WalkedEntry {
  Spte spte;
  PageLevel level;
  Gfn gfn;
};

class FrameView {
 public:
  // REQUIRES: the valid root, read in this read section.
  explicit FrameView(const TdpRoot& root)
      : directory_(*root.directory), tree_(root.tree()) {}

  // The last entry on the path. REQUIRES: in the root's span.
  WalkedEntry Find(Gfn gfn) const {
    if (PageTable* table = directory_.Find(gfn)) [[likely]] {
      const Spte spte = ReadSpte(EntryIn(table, gfn));
      // FROZEN: the entry changes, or the table was unlinked and another entry
      // decides.
      if (!spte.IsFrozen()) [[likely]]
        return {spte, PageLevel::k4K, gfn};
    }
    const LastEntry last = FindLastEntry(tree_, gfn);
    return {last.spte, last.level, AlignDown(gfn, last.level)};
  }

  // Brings the entry that Find() will read into the cache, if it is in a leaf
  // table.
  void PrefetchEntry(Gfn gfn) const {
    if (PageTable* table = directory_.Find(gfn)) [[likely]] {
      __builtin_prefetch(&table->entries[IndexIn(gfn, PageLevel::k4K)]);
    }
  }

 private:
  static SptePtr EntryIn(PageTable* table, Gfn gfn) {
    return table->EntryAt(IndexIn(gfn, PageLevel::k4K));
  }

  const LeafDirectory::View directory_;
  const TdpTree tree_;
};

}  // namespace tdp

#endif  // ENGINE_MMU_FRAME_VIEW_H_
