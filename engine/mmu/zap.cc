// Removing leaves, and splitting the ones too large for a host call.

#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/errors.h"
#include "engine/mmu/frozen_backoff.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

// Entries visited between two looks at whether a writer waits.
constexpr int kContentionInterval = 64;
// Entries visited in one RCU read section, so that it stays short over empty
// tables.
constexpr int kMaxVisits = 1 << 16;

}  // namespace

MmuProgress TdpMmu::ZapRange(GfnRange range, StopCheck stop) {
  range = range.Intersect(span());
  MmuProgress progress{.next_gfn = range.end};
  sequence_.Advance(range);
  // An invalidated root may still map a frame, and only one root maps it. The
  // roots are listed first: a root that joins later holds newer mappings.
  for (const int64_t root_id : RootIds()) {
    const MmuProgress one = ZapLeaves(root_id, range, stop);
    progress.changed_frames += one.changed_frames;
    progress.next_gfn = std::min(progress.next_gfn, one.next_gfn);
    if (!one.status.ok()) {
      progress.status = one.status;
      return progress;
    }
  }
  return progress;
}

MmuProgress TdpMmu::ZapLeaves(int64_t root_id, GfnRange range, StopCheck stop) {
  MmuProgress progress{.next_gfn = range.start};
  FrozenBackoff backoff;
  while (progress.next_gfn < range.end) {
    FrozenRun run;
    BackingPin pin;
    Gfn next = progress.next_gfn;
    const ZapStep step =
        FreezeForZap(root_id, {progress.next_gfn, range.end}, run, pin, &next);
    switch (step) {
      case ZapStep::kDone:
        progress.next_gfn = range.end;
        return progress;
      case ZapStep::kFrozen:
      case ZapStep::kRetry:
        backoff.Wait();
        break;
      case ZapStep::kYielded:
        counters_.Add(MmuCounter::kYields, 1);
        break;
      case ZapStep::kSplit:
        progress.status = SplitHugeLeaf(root_id, next, PageLevel::k1G);
        if (!progress.status.ok()) return progress;
        next = progress.next_gfn;
        break;
      case ZapStep::kZapped: {
        const GfnRange zapped = run.range();
        CountHostCall();
        const HostCallResult host = pin->Unmap(zapped);
        CommitRun(run, [&](int i) {
          return host.error == 0 ? Spte::NonPresent() : run.old_spte(i);
        });
        pin->Wake(zapped);
        if (host.error != 0) {
          progress.status = HostCallError("madvise(MADV_DONTNEED)", host.error);
          return progress;
        }
        progress.changed_frames += static_cast<int64_t>(zapped.size());
        next = zapped.end;
        break;
      }
    }
    progress.next_gfn = std::max(progress.next_gfn, std::min(next, range.end));
    // Every call makes progress: a spent budget is asked about after some.
    if (progress.next_gfn > range.start && stop()) return progress;
  }
  return progress;
}

// Freezes the first run of leaves of `range`. `next` is where to go on where
// nothing was frozen, or the leaf to split.
TdpMmu::ZapStep TdpMmu::FreezeForZap(int64_t root_id, GfnRange range,
                                     FrozenRun& run, BackingPin& pin,
                                     Gfn* next) {
  MmuReadGuard lock(mmu_lock_);
  RcuReadGuard rcu(rcu_);
  const TdpRoot* root = Roots().Find(root_id);
  if (root == nullptr) return ZapStep::kDone;
  int visited = 0;
  for (TdpIterator it(root->tree(), range); it.valid(); it.Next()) {
    Spte spte = it.spte();
    if (!run.empty()) {
      const bool follows =
          spte.IsLeaf(it.level()) && it.level() == run.level() &&
          it.gfn() == run.range().end && IndexIn(it.gfn(), it.level()) != 0 &&
          pin->range().Contains(it.covered());
      if (!follows || !run.TryExtend(it.entry(), it.gfn(), it.level(), spte)) {
        return ZapStep::kZapped;
      }
      continue;
    }
    if (spte.IsFrozen()) {
      *next = it.next_gfn();
      return ZapStep::kFrozen;
    }
    if (!spte.IsLeaf(it.level())) {
      // Progress first: a yield that has seen nothing new would come back to
      // the same entry for ever.
      ++visited;
      const bool pause =
          visited >= kMaxVisits ||
          (visited % kContentionInterval == 0 && mmu_lock_.IsContended());
      if (pause && it.next_gfn() > range.start) {
        *next = it.next_gfn();
        return ZapStep::kYielded;
      }
      continue;
    }
    *next = it.next_gfn();
    if (it.level() == PageLevel::k1G) return ZapStep::kSplit;
    PinResult found = backings_.Pin(it.gfn(), PinMode::kUnmap);
    // A memslot goes away only after its entries: this one is gone as well.
    if (!found.pin) return ZapStep::kRetry;
    pin = std::move(found.pin);
    if (!run.TryExtend(it.entry(), it.gfn(), it.level(), spte)) {
      return ZapStep::kRetry;
    }
    if (it.level() > PageLevel::k4K) return ZapStep::kZapped;
  }
  return run.empty() ? ZapStep::kDone : ZapStep::kZapped;
}

absl::Status TdpMmu::SplitHugeLeaf(int64_t root_id, Gfn gfn, PageLevel level) {
  PageTableCache cache(pool_);
  if (absl::Status s = cache.TopUp(1); !s.ok()) return s;
  FrozenRun run;
  {
    MmuReadGuard lock(mmu_lock_);
    RcuReadGuard rcu(rcu_);
    const TdpRoot* root = Roots().Find(root_id);
    if (root == nullptr) return absl::OkStatus();
    LastEntry last = FindLastEntry(root->tree(), gfn);
    if (last.level != level || !last.spte.IsHuge(level)) {
      return absl::OkStatus();
    }
    if (!run.TryExtend(last.entry, AlignDown(gfn, level), level, last.spte)) {
      return absl::OkStatus();
    }
  }
  // No host call: the leaves together say what the huge one said.
  const Spte huge = run.old_spte(0);
  PageTable* table = cache.Take();
  PageTableHeader& header = PageTablePool::HeaderOf(table);
  header.level = ChildLevel(level);
  header.base_gfn = run.gfn(0);
  for (int i = 0; i < kEntriesPerTable; ++i) {
    // The table is private; the store of its pointer publishes the leaves.
    const Spte leaf = huge.ChildOfHuge(level, i);
    const Gfn leaf_gfn = run.gfn(0) + static_cast<uint64_t>(i) *
                                          FramesPerEntry(ChildLevel(level));
    OnChanged(Spte::NonPresent(), leaf, leaf_gfn, ChildLevel(level));
    WriteOwnedSpte(table->EntryAt(i), leaf);
  }
  const GfnRange range = run.range();
  CommitRun(run, [&](int) { return MakeTableSpte(table); });
  WakeAll(range);
  return absl::OkStatus();
}

void TdpMmu::WakeAll(GfnRange range) {
  Gfn gfn = range.start;
  while (gfn < range.end && backings_.NextBacked(gfn, &gfn) &&
         gfn < range.end) {
    PinResult found = backings_.Pin(gfn, PinMode::kUnmap);
    if (!found.pin) {
      gfn += 1;
      continue;
    }
    const GfnRange piece = range.Intersect(found.pin->range());
    found.pin->Wake(piece);
    gfn = piece.end;
  }
}

}  // namespace tdp
