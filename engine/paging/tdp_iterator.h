// TdpIterator: a pre-order walk over the entries of a tree that cover a range.
//
// A parent is visited before its children, entries come in ascending order, and
// an entry is read again before the walk descends through it, so that it does
// not step into a table that was unlinked meanwhile; the entry in its place is
// then visited instead. Upper-level entries may begin before the range. (Linux
// arch/x86/kvm/mmu/tdp_iter.c.)
//
//   RcuReadGuard rcu(domain);
//   for (TdpIterator it(root, range); it.valid(); it.Next()) { it.spte(); }
//
// Thread safety: belongs to one thread. Everything but construction and
// Restart() looks through entries and so needs the RCU read section in which
// the walk was started or restarted.
//
// Invariants: after the caller has left the RCU section it calls Restart()
// inside the next one, before anything else. next_gfn() never goes back.

#ifndef ENGINE_PAGING_TDP_ITERATOR_H_
#define ENGINE_PAGING_TDP_ITERATOR_H_

#include "engine/base/types.h"
#include "engine/paging/page_table.h"
#include "engine/paging/spte.h"

namespace tdp {

// A tree: its top table and the level of that table's entries.
struct TdpTree {
  PageTable* root = nullptr;
  PageLevel level = PageLevel::k512G;

  uint64_t frame_count() const { return FramesOfRoot(level); }
  GfnRange span() const { return {Gfn(0), Gfn(frame_count())}; }
};

class TdpIterator {
 public:
  // Starts at the root's entry for range.start. Does not descend below
  // `min_level`. The range is clipped to the tree's span.
  TdpIterator(TdpTree tree, GfnRange range,
              PageLevel min_level = PageLevel::k4K);

  bool valid() const { return valid_; }
  PageLevel level() const { return level_; }
  // First frame of the current entry; may be below the range above level 4K.
  Gfn gfn() const { return gfn_; }
  GfnRange covered() const { return {gfn_, gfn_ + FramesPerEntry(level_)}; }
  SptePtr entry() const { return entry_; }
  // The entry as it was when the walk reached it, or at the last Refresh().
  Spte spte() const { return spte_; }
  // First frame of the range that the walk has not passed.
  Gfn next_gfn() const { return next_gfn_; }

  // Goes on, in pre-order.
  void Next();
  // Reads the current entry again, after a lost compare-exchange.
  void Refresh() { spte_ = ReadSpte(entry_); }
  // Starts again from the root at next_gfn(), in a new RCU read section.
  void Restart();

 private:
  bool TryStepDown();
  void StepOver();
  void Load(PageTable* table, PageLevel level);

  const TdpTree tree_;
  const PageLevel min_level_;
  const Gfn end_;
  Gfn next_gfn_;

  bool valid_ = false;
  PageLevel level_ = PageLevel::k4K;
  Gfn gfn_;
  SptePtr entry_;
  Spte spte_;
  // Tables on the path, by level; valid inside the current RCU section.
  PageTable* path_[static_cast<int>(kMaxRootLevel) + 1] = {};
};

// The last entry on the path to `gfn`: a leaf, or not present, or frozen.
struct LastEntry {
  SptePtr entry;
  Spte spte;
  PageLevel level;
};
// REQUIRES: an RCU read section; `gfn` inside the tree's span.
LastEntry FindLastEntry(TdpTree tree, Gfn gfn);

}  // namespace tdp

#endif  // ENGINE_PAGING_TDP_ITERATOR_H_
