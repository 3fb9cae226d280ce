// Replacing tables of leaves by huge leaves, in place: no frame is unmapped.

#include <algorithm>
#include <optional>

#include "engine/base/trace.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

// Entries visited in one RCU read section.
constexpr int kMaxVisits = 4096;

// Leaves of consecutive frames, of equal access.
class HugeLeafBuilder {
 public:
  explicit HugeLeafBuilder(PageLevel level) : level_(level) {}

  // Adds the next leaf of the table. False if it does not go with the others.
  bool Add(Spte spte) {
    const PageLevel child = ChildLevel(level_);
    if (!spte.IsLeaf(child)) return false;
    if (count_ == 0) {
      if (!IsAligned(spte.pfn().value(), level_)) return false;
      first_ = spte;
    } else if (!spte.SameButForFrame(first_) ||
               spte.pfn() != first_.pfn() + count_ * FramesPerEntry(child)) {
      return false;
    }
    accessed_ |= spte.IsAccessed();
    dirty_ |= spte.IsDirty();
    ++count_;
    return true;
  }
  // REQUIRES: a whole table was added.
  Spte Build() const {
    return first_.HugeOfChildren(level_, accessed_, dirty_);
  }

 private:
  const PageLevel level_;
  uint64_t count_ = 0;
  Spte first_;
  bool accessed_ = false;
  bool dirty_ = false;
};

bool MayCollapse(PageTable* table, PageLevel level) {
  HugeLeafBuilder builder(level);
  for (int i = 0; i < kEntriesPerTable; ++i) {
    if (!builder.Add(ReadSpte(table->EntryAt(i)))) return false;
  }
  return true;
}

}  // namespace

// Collapses the table that the entry of `level` for `gfn` points to. False if
// that is not possible, or others are at work in it.
bool TdpMmu::CollapseTable(Gfn gfn, PageLevel level) {
  const GfnRange covered = {gfn, gfn + FramesPerEntry(level)};
  PinResult found = backings_.Pin(gfn, PinMode::kMap);
  if (!found.pin || !found.pin->range().Contains(covered)) {
    return false;
  }
  // Leaves are host pages there.
  if (found.pin->host_page_level() > PageLevel::k4K) return false;
  FrozenRun parent;
  FrozenRun children;
  PageTable* table = nullptr;
  LeafDirectory* directory = nullptr;
  bool whole = true;
  {
    MmuReadGuard lock(mmu_lock_);
    RcuReadGuard rcu(rcu_);
    const TdpRoot& root = Roots().valid();
    // Not below this level: the iterator's entry is the one looked for.
    TdpIterator it(root.tree(), covered, level);
    while (it.valid() && it.level() > level) it.Next();
    if (!it.valid() || !it.spte().IsTable(level)) {
      return false;
    }
    const Spte spte = it.spte();
    table = TableOf(spte);
    directory = root.directory;
    if ((level == PageLevel::k2M && !directory->MayUnlink(gfn, table)) ||
        !parent.TryExtend(it.entry(), gfn, level, spte, Spte::NonPresent())) {
      return false;
    }
  }
  {
    // Nobody reaches the children any more but who did already; such a one may
    // own a child, and then this thread backs off. The table is this thread's,
    // and needs no mmu_lock.
    RcuReadGuard rcu(rcu_);
    HugeLeafBuilder builder(level);
    for (int i = 0; i < kEntriesPerTable && whole; ++i) {
      const SptePtr entry = table->EntryAt(i);
      const Spte child = ReadSpte(entry);
      whole = builder.Add(child) &&
              children.TryExtend(entry,
                                 gfn + static_cast<uint64_t>(i) *
                                           FramesPerEntry(ChildLevel(level)),
                                 ChildLevel(level), child, Spte::Frozen());
    }
    if (whole) parent.set_target(0, builder.Build());
  }
  if (!whole) {
    RestoreRun(children);
    RestoreRun(parent);
    found.pin->Wake(covered);
    return false;
  }
  // No host call: the host maps what the leaves said, and the huge one says the
  // same. If not all of them were accessed it maps less, which is legal.
  Account(children);
  // The children stay FROZEN for good: who came too late finds nothing there.
  children.Release();
  if (level == PageLevel::k2M) directory->Clear(gfn);
  CommitTargets(parent);
  pool_.Retire(table);
  counters_.Add(MmuCounter::kCollapses, 1);
  TDP_TRACE(collapse, gfn.value(), static_cast<int>(level));
  found.pin->Wake(covered);
  return true;
}

MmuProgress TdpMmu::CollapseHugePages(GfnRange range, PageLevel max_level,
                                      StopCheck stop) {
  range = range.Intersect(span());
  MmuProgress progress{.next_gfn = range.start};
  // Whole entries of the highest level are done before a stop is asked about:
  // the next call sees only what lies inside its range.
  while (progress.next_gfn < range.end) {
    const GfnRange piece = {
        progress.next_gfn,
        std::min(range.end, AlignDown(progress.next_gfn, PageLevel::k1G) +
                                FramesPerEntry(PageLevel::k1G))};
    for (PageLevel level = PageLevel::k2M; level <= max_level;
         level = ParentLevel(level)) {
      const MmuProgress pass = CollapseTables(piece, level);
      progress.changed_frames += pass.changed_frames;
      progress.changed_entries += pass.changed_entries;
    }
    progress.next_gfn = piece.end;
    if (stop()) break;
  }
  return progress;
}

MmuProgress TdpMmu::CollapseTables(GfnRange range, PageLevel level) {
  MmuProgress progress{.next_gfn = range.start};
  while (progress.next_gfn < range.end) {
    std::optional<Gfn> candidate;
    {
      RcuReadGuard rcu(rcu_);
      TdpIterator it(Roots().valid().tree(), {progress.next_gfn, range.end},
                     level);
      for (int visited = 0; it.valid(); it.Next()) {
        if (it.level() == level && it.spte().IsTable(level) &&
            range.Contains(it.covered())) {
          visited += kEntriesPerTable;
          // Before the table is frozen for nothing.
          if (MayCollapse(TableOf(it.spte()), level)) {
            candidate = it.gfn();
            progress.next_gfn = it.covered().end;
            break;
          }
        }
        if (++visited >= kMaxVisits && it.next_gfn() > progress.next_gfn) break;
      }
      if (!candidate.has_value()) {
        progress.next_gfn = it.valid() ? it.next_gfn() : range.end;
      }
    }
    if (candidate.has_value() && CollapseTable(*candidate, level)) {
      ++progress.changed_entries;
      progress.changed_frames += static_cast<int64_t>(FramesPerEntry(level));
    }
    // Retired tables are bounded; this thread owns nothing now.
    if (rcu_.OverLimit()) rcu_.WaitUntilUnderLimit();
  }
  return progress;
}

}  // namespace tdp
