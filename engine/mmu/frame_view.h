// FrameView: a root as a walk to single frames sees it. Most walks find their
// leaf table in the root's directory; the others descend.
//
// Thread safety: belongs to one thread, in one RCU read section.

#ifndef ENGINE_MMU_FRAME_VIEW_H_
#define ENGINE_MMU_FRAME_VIEW_H_

#include "absl/base/attributes.h"
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
      : directory_(*root.directory), root_(root) {}

  // The last entry on the path. REQUIRES: in the root's span.
  WalkedEntry Find(Gfn gfn) const {
    if (PageTable* table = directory_.Find(gfn)) [[likely]] {
      const Spte spte = ReadSpte(EntryIn(table, gfn));
      // Else FROZEN: the entry changes, or the table was unlinked and another
      // entry decides.
      if (spte.IsPresent() || spte.IsNonPresent()) [[likely]]
        return {spte, PageLevel::k4K, gfn};
    }
    return Descend(gfn);
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

  // Apart, or Find() would keep registers free for it.
  ABSL_ATTRIBUTE_NOINLINE WalkedEntry Descend(Gfn gfn) const {
    const LastEntry last = FindLastEntry(root_.tree(), gfn);
    return {last.spte, last.level, AlignDown(gfn, last.level)};
  }

  const LeafDirectory::View directory_;
  const TdpRoot& root_;
};

}  // namespace tdp

#endif  // ENGINE_MMU_FRAME_VIEW_H_
