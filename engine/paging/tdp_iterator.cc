#include "engine/paging/tdp_iterator.h"

#include <algorithm>

namespace tdp {

TdpIterator::TdpIterator(TdpTree tree, GfnRange range, PageLevel min_level)
    : tree_(tree),
      min_level_(min_level),
      end_(std::min(range.end, tree.span().end)),
      next_gfn_(range.start) {
  Restart();
}

void TdpIterator::Restart() {
  valid_ = next_gfn_ < end_;
  if (valid_) Load(tree_.root, tree_.level);
}

void TdpIterator::Load(PageTable* table, PageLevel level) {
  path_[static_cast<int>(level)] = table;
  level_ = level;
  gfn_ = AlignDown(next_gfn_, level);
  entry_ = table->EntryAt(IndexIn(next_gfn_, level));
  Refresh();
}

void TdpIterator::Next() {
  const bool was_table = level_ != min_level_ && spte_.IsTable(level_);
  if (TryStepDown()) return;
  // The table gave way since it was visited: the entry that took its place has
  // not been.
  if (was_table) return;
  StepOver();
}

bool TdpIterator::TryStepDown() {
  if (level_ == min_level_) return false;
  Refresh();
  if (!spte_.IsTable(level_)) return false;
  Load(TableOf(spte_), ChildLevel(level_));
  return true;
}

void TdpIterator::StepOver() {
  next_gfn_ = std::max(next_gfn_, gfn_ + FramesPerEntry(level_));
  if (next_gfn_ >= end_) {
    valid_ = false;
    return;
  }
  // The parents of the next entry were visited before their first child, so
  // the walk goes to a side entry of the lowest table that has one.
  PageLevel level = level_;
  while (level < tree_.level && IndexIn(next_gfn_, level) == 0) {
    level = ParentLevel(level);
  }
  Load(path_[static_cast<int>(level)], level);
}

LastEntry FindLastEntry(TdpTree tree, Gfn gfn) {
  PageTable* table = tree.root;
  for (PageLevel level = tree.level;; level = ChildLevel(level)) {
    const SptePtr entry = table->EntryAt(IndexIn(gfn, level));
    const Spte spte = ReadSpte(entry);
    if (!spte.IsTable(level)) return {entry, spte, level};
    table = TableOf(spte);
  }
}

}  // namespace tdp
