// The only places where entries change, and the choke point that sees every
// change.

#include "engine/base/check.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

MmuCounter LeafCounterOf(PageLevel level) {
  switch (level) {
    case PageLevel::k2M:
      return MmuCounter::kLeaf2M;
    case PageLevel::k1G:
      return MmuCounter::kLeaf1G;
    default:
      return MmuCounter::kLeaf4K;
  }
}

}  // namespace

void TdpMmu::OnChanged(Spte was, Spte now, Gfn gfn, PageLevel level) {
  if (was == now) return;
  TDP_CHECK(IsAligned(gfn.value(), level), "an entry begins at its level");
  const bool was_leaf = was.IsLeaf(level);
  const bool is_leaf = now.IsLeaf(level);
  if (is_leaf) {
    TDP_CHECK(level <= kMaxLeafLevel, "no leaf above 1G");
    TDP_CHECK(IsAligned(now.pfn().value(), level), "a leaf's PFN is aligned");
    TDP_CHECK(now.CheckLeafInvariants(), "writable bits imply each other");
    // A present leaf never changes its frame: whoever used it before would
    // still reach the old one.
    TDP_CHECK(!was_leaf || was.pfn() == now.pfn(), "a leaf keeps its PFN");
    TDP_CHECK(!was_leaf || was.IsHostWritable() == now.IsHostWritable(),
              "HOST_WRITABLE is constant while present");
  }
  if (was_leaf != is_leaf) {
    counters_.Add(LeafCounterOf(level), is_leaf ? 1 : -1);
  }
  const bool was_table = was.IsTable(level);
  const bool is_table = now.IsTable(level);
  if (was_table && is_table) {
    TDP_CHECK(was.table_address() == now.table_address(),
              "a table is replaced by unlinking it first");
  }
  if (was_table != is_table) {
    counters_.Add(MmuCounter::kLinkedTables, is_table ? 1 : -1);
  }
}

void TdpMmu::CommitRun(FrozenRun& run,
                       absl::FunctionRef<Spte(int)> final_value) {
  // The tables of frozen entries are not retired, so the pointers still hold;
  // the section is entered because every access to an entry is made in one.
  RcuReadGuard rcu(rcu_);
  for (int i = 0; i < run.size(); ++i) {
    const Spte value = final_value(i);
    TDP_CHECK(!value.IsFrozen(), "a final value is not FROZEN");
    // Accounted first: a thread that sees the new value may act on it and
    // account for that before this thread goes on.
    OnChanged(run.old_spte(i), value, run.gfn(i), run.level());
    WriteOwnedSpte(run.entry(i), value);
  }
  run.Release();
}

bool TdpMmu::TryLinkTable(SptePtr entry, Spte& expected, Gfn gfn,
                          PageLevel level, PageTableCache& cache) {
  PageTable* table = cache.Take();
  PageTableHeader& header = PageTablePool::HeaderOf(table);
  header.level = ChildLevel(level);
  header.base_gfn = gfn;
  const Spte old = expected;
  if (!TryWriteSpte(entry, expected, MakeTableSpte(table))) {
    cache.Return(table);
    return false;
  }
  OnChanged(old, MakeTableSpte(table), gfn, level);
  expected = MakeTableSpte(table);
  return true;
}

}  // namespace tdp
