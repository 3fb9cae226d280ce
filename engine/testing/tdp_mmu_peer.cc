#include "engine/testing/tdp_mmu_peer.h"

#include "engine/base/check.h"

namespace tdp {

std::vector<TdpRoot> TdpMmuPeer::Roots(const TdpMmu& mmu) {
  RcuReadGuard rcu(mmu.rcu_);
  return mmu.Roots().roots;
}

bool TdpMmuPeer::IsFrozen(const TdpMmu& mmu, Gfn gfn) {
  RcuReadGuard rcu(mmu.rcu_);
  for (const TdpRoot& root : mmu.Roots().roots) {
    if (FindLastEntry(root.tree(), gfn).spte.IsFrozen()) return true;
  }
  return false;
}

void TdpMmuPeer::InstallLeaf(TdpMmu& mmu, Gfn gfn, PageLevel level, Spte leaf) {
  PageTableCache cache(mmu.pool_);
  TDP_CHECK(cache.TopUp(static_cast<int>(mmu.root_level_)).ok(),
            "a test has tables enough");
  FrozenRun run;
  {
    RcuReadGuard rcu(mmu.rcu_);
    for (;;) {
      LastEntry last = FindLastEntry(mmu.Roots().valid().tree(), gfn);
      TDP_CHECK(last.spte.IsNonPresent(), "nothing is mapped yet");
      const Gfn first = AlignDown(gfn, last.level);
      if (last.level == level) {
        TDP_CHECK(run.TryExtend(last.entry, first, level, last.spte, leaf),
                  "nobody else is here");
        break;
      }
      TDP_CHECK(mmu.TryLinkTable(mmu.Roots().valid(), last.entry, first,
                                 last.level, cache),
                "nobody else is here");
    }
  }
  mmu.CommitTargets(run);
}

PageTable* TdpMmuPeer::LastTable(const TdpMmu& mmu, Gfn gfn) {
  const TdpTree tree = mmu.Roots().valid().tree();
  PageTable* table = tree.root;
  for (PageLevel level = tree.level;; level = ChildLevel(level)) {
    const Spte spte = ReadSpte(table->EntryAt(IndexIn(gfn, level)));
    if (!spte.IsTable(level)) return table;
    table = TableOf(spte);
  }
}

TdpMmuPeer::Owner::Owner(TdpMmu& mmu, Gfn gfn) : mmu_(mmu) {
  RcuReadGuard rcu(mmu_.rcu_);
  LastEntry last = FindLastEntry(mmu_.Roots().valid().tree(), gfn);
  TDP_CHECK(run_.TryExtend(last.entry, AlignDown(gfn, last.level), last.level,
                           last.spte, last.spte),
            "nobody else owns the entry");
}

TdpMmuPeer::Owner::~Owner() { mmu_.RestoreRun(run_); }

}  // namespace tdp
