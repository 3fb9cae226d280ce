// The only places where entries change, and the choke point that sees every
// change.

#include <cassert>

#include "engine/base/trace.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

// Every change of an entry passes here. What holds of each is checked in debug
// builds: it would double what a change of many entries costs.
inline void NoteChange([[maybe_unused]] Spte was, [[maybe_unused]] Spte now,
                       [[maybe_unused]] Gfn gfn,
                       [[maybe_unused]] PageLevel level) {
  assert(!now.IsFrozen() && "a final value is not FROZEN");
  assert(IsAligned(gfn.value(), level) && "an entry begins at its level");
  if (now.IsLeaf(level)) {
    assert(level <= kMaxLeafLevel && "no leaf above 1G");
    assert(IsAligned(now.pfn().value(), level) && "a leaf's PFN is aligned");
    assert(now.CheckLeafInvariants() && "writable bits imply each other");
    if (was.IsLeaf(level)) {
      // Whoever used the leaf before would still reach the old frame.
      assert(was.pfn() == now.pfn() && "a present leaf keeps its PFN");
      assert(was.IsHostWritable() == now.IsHostWritable() &&
             "HOST_WRITABLE is constant while present");
    }
  }
  assert((!was.IsTable(level) || !now.IsTable(level) ||
          was.table_address() == now.table_address()) &&
         "a table is replaced by unlinking it first");
  TDP_TRACE(spte_changed, gfn.value(), static_cast<int>(level), was.raw(),
            now.raw());
}

}  // namespace

void TdpMmu::OnChanged(Spte was, Spte now, Gfn gfn, PageLevel level,
                       EntryDelta& delta) {
  NoteChange(was, now, gfn, level);
  delta.leaves[static_cast<int>(level)] +=
      static_cast<int>(now.IsLeaf(level)) - static_cast<int>(was.IsLeaf(level));
  delta.tables += static_cast<int>(now.IsTable(level)) -
                  static_cast<int>(was.IsTable(level));
}

void TdpMmu::Account(const EntryDelta& delta) {
  for (PageLevel level : {PageLevel::k4K, PageLevel::k2M, PageLevel::k1G}) {
    const int64_t leaves = delta.leaves[static_cast<int>(level)];
    if (leaves != 0) counters_.Add(LeafCounterOf(level), leaves);
  }
  if (delta.tables != 0) counters_.Add(MmuCounter::kLinkedTables, delta.tables);
}

void TdpMmu::Account(const FrozenRun& run) {
  if (const int64_t leaves = run.leaf_delta(); leaves != 0) {
    counters_.Add(LeafCounterOf(run.level()), leaves);
  }
  if (const int64_t tables = run.table_delta(); tables != 0) {
    counters_.Add(MmuCounter::kLinkedTables, tables);
  }
}

void TdpMmu::RestoreRun(FrozenRun& run) {
  // The tables of frozen entries are not retired, so the pointers still hold;
  // the section is entered because every access to an entry is made in one.
  RcuReadGuard rcu(rcu_);
  for (int i = 0; i < run.size(); ++i) {
    WriteOwnedSpte(run.entry(i), run.old_spte(i));
  }
  run.Release();
}

void TdpMmu::CommitTargets(FrozenRun& run) {
  // Accounted first: a thread that sees a new value may act on it and account
  // for that before this thread goes on.
  Account(run);
  RcuReadGuard rcu(rcu_);
  const PageLevel level = run.level();
  const int size = run.size();
  SptePtr entry = run.entry(0);
  Gfn gfn = run.gfn(0);
  for (int i = 0; i < size; ++i) {
    const Spte target = run.target(i);
    NoteChange(run.old_spte(i), target, gfn, level);
    WriteOwnedSpte(entry, target);
    entry = entry + 1;
    gfn += FramesPerEntry(level);
  }
  run.Release();
}

bool TdpMmu::TryLinkTable(const TdpRoot& root, SptePtr entry, Gfn gfn,
                          PageLevel level, PageTableCache& cache) {
  PageTable* table = cache.Take();
  PageTableHeader& header = PageTablePool::HeaderOf(table);
  header.level = ChildLevel(level);
  header.base_gfn = gfn;
  const Spte linked = MakeTableSpte(table);
  if (!TryWriteSpte(entry, Spte::NonPresent(), linked)) {
    cache.Return(table);
    return false;
  }
  EntryDelta delta;
  OnChanged(Spte::NonPresent(), linked, gfn, level, delta);
  Account(delta);
  // Last: until it is set, nobody unlinks the table.
  if (level == PageLevel::k2M) root.directory->Set(gfn, table);
  return true;
}

}  // namespace tdp
