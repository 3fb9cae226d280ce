// Replacing huge leaves by tables of smaller ones.

#include <algorithm>

#include "engine/base/trace.h"
#include "engine/mmu/frozen_backoff.h"
#include "engine/mmu/host_pages.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

// Entries visited in one RCU read section.
constexpr int kMaxVisits = 4096;

}  // namespace

absl::StatusOr<bool> TdpMmu::SplitHugeLeaf(const TdpRoot& root, Gfn gfn,
                                           PageLevel level, TableLimit limit) {
  {
    // Before a table is asked for in vain: there may be none.
    RcuReadGuard rcu(rcu_);
    const LastEntry last = FindLastEntry(root.tree(), gfn);
    if (last.level != level || last.spte.IsNonPresent()) return false;
  }
  // Until the leaf is split, so that none of another memslot is met: that one
  // may not be cut. A memslot stays until its leaves are gone.
  const PinResult found = backings_.Pin(gfn, PinMode::kUnmap);
  if (!found.pin) return false;
  if (absl::Status s = CheckLeafLevel(*found.pin, ChildLevel(level)); !s.ok()) {
    return s;
  }
  PageTableCache cache(pool_);
  if (absl::Status s = limit == TableLimit::kEnforced ? cache.TopUp(1)
                                                      : cache.TopUpExempt(1);
      !s.ok()) {
    return s;
  }
  FrozenRun run;
  PageTable* table = cache.Take();
  {
    MmuReadGuard lock(mmu_lock_);
    RcuReadGuard rcu(rcu_);
    const LastEntry last = FindLastEntry(root.tree(), gfn);
    if (last.level != level || !last.spte.IsHuge(level) ||
        !run.TryExtend(last.entry, AlignDown(gfn, level), level, last.spte,
                       MakeTableSpte(table))) {
      cache.Return(table);
      return false;
    }
  }
  // No host call: the leaves together say what the huge one said.
  const Spte huge = run.old_spte(0);
  const PageLevel child = ChildLevel(level);
  PageTableHeader& header = PageTablePool::HeaderOf(table);
  header.level = child;
  header.base_gfn = run.gfn(0);
  EntryDelta delta;
  for (int i = 0; i < kEntriesPerTable; ++i) {
    const Spte leaf = huge.ChildOfHuge(level, i);
    const Gfn leaf_gfn =
        run.gfn(0) + static_cast<uint64_t>(i) * FramesPerEntry(child);
    OnChanged(Spte::NonPresent(), leaf, leaf_gfn, child, delta);
    // The table is private; the store of its pointer publishes the leaves.
    WriteOwnedSpte(table->EntryAt(i), leaf);
  }
  Account(delta);
  // Before the table is linked, while its owner is sure of the root: who finds
  // it here finds leaves that hold already.
  if (level == PageLevel::k2M) root.directory->Set(run.gfn(0), table);
  const GfnRange range = run.range();
  CommitTargets(run);
  counters_.Add(MmuCounter::kSplits, 1);
  TDP_TRACE(split, range.start.value(), static_cast<int>(level));
  WakeAll(range);
  return true;
}

// Splits the leaf of `level` that holds `gfn`, if it is still there, because a
// verb cannot change it whole. A 1G leaf replaced a table when it was built, so
// the table to split it into is owed: it is given even at the limit, or a VM
// there could not be zapped.
absl::Status TdpMmu::SplitFirst(const TdpRoot& root, Gfn gfn, PageLevel level) {
  return SplitHugeLeaf(root, gfn, level,
                       level == PageLevel::k1G ? TableLimit::kIgnored
                                               : TableLimit::kEnforced)
      .status();
}

absl::Status TdpMmu::SplitInValidRoot(Gfn gfn) {
  const RootRef root = GetValidRoot();
  PageLevel level;
  {
    RcuReadGuard rcu(rcu_);
    level = FindLastEntry(root->tree(), gfn).level;
  }
  if (level == PageLevel::k4K) return absl::OkStatus();
  return SplitFirst(*root, gfn, level);
}

MmuProgress TdpMmu::SplitHugePages(GfnRange range, PageLevel target_level,
                                   StopCheck stop) {
  range = range.Intersect(span());
  MmuProgress progress{.next_gfn = range.start};
  progress.status = CheckLeafLevel(backings_, range, target_level);
  if (!progress.status.ok()) return progress;
  const RootRef root = GetValidRoot();
  FrozenBackoff backoff;
  while (progress.next_gfn < range.end) {
    WalkedEntry found;
    bool must_wait = false;
    {
      RcuReadGuard rcu(rcu_);
      TdpIterator it(root->tree(), {progress.next_gfn, range.end},
                     ParentLevel(target_level));
      int visited = 0;
      for (; it.valid(); it.Next()) {
        found = {it.spte(), it.level(), it.gfn()};
        must_wait = it.spte().IsFrozen();
        if (must_wait || it.spte().IsHuge(it.level())) break;
        if (++visited >= kMaxVisits && it.next_gfn() > progress.next_gfn) break;
      }
      if (!it.valid()) break;
      progress.next_gfn = std::max(progress.next_gfn, it.next_gfn());
    }
    if (must_wait) {
      backoff.Wait();
    } else if (found.spte.IsHuge(found.level)) {
      // The walk goes on inside it, at the same frame.
      const absl::StatusOr<bool> split = SplitHugeLeaf(
          *root, progress.next_gfn, found.level, TableLimit::kEnforced);
      progress.status = split.status();
      if (!split.ok()) return progress;
      if (*split) ++progress.changed_entries;
    }
    if (progress.next_gfn > range.start && stop()) return progress;
  }
  progress.next_gfn = range.end;
  return progress;
}

}  // namespace tdp
