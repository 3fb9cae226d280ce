// The driver of the ranged verbs: looks for leaves that a verb wants to change,
// freezes a run of them, makes the host call, writes the final values.
//
// A verb is a class with
//   static constexpr bool kLockless;         no mmu_lock
//   static constexpr bool kSkipsFrozen;      passes by what others change
//   static constexpr bool kSweeps;           takes note of touches or writes
//   // What becomes of a leaf, or LeafChange::None(). REQUIRES: RCU.
//   LeafChange Plan(Spte old, Gfn gfn, PageLevel level);
//   // Up to where leaves have the same plan if they differ only in the frame.
//   Gfn PlanEnd(Gfn gfn, PageLevel level);
//   // Whether a leaf that is to change must be split first. 1G leaves are.
//   bool MustSplit(Gfn gfn, PageLevel level);
//   void OnSplit(GfnRange leaf);             before that, told what it covers
//   void OnChanged(GfnRange run);            after the final values
//
// Internal to engine/mmu: included by the files that define verbs.

#ifndef ENGINE_MMU_LEAF_CHANGES_H_
#define ENGINE_MMU_LEAF_CHANGES_H_

#include <algorithm>

#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/base/trace.h"
#include "engine/mmu/frozen_backoff.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {

struct LeafChange {
  Spte target;
  HostStep step = HostStep::kNone;
  bool wanted = true;

  static constexpr LeafChange None() {
    return {Spte(), HostStep::kNone, false};
  }
};

namespace leaf_changes_internal {

// Entries visited between two looks at whether a writer waits.
inline constexpr int kContentionInterval = 64;
// Entries visited under one hold of mmu_lock, so that it stays short where
// there is nothing to do.
inline constexpr int kMaxVisits = 256;

}  // namespace leaf_changes_internal

// Freezes the first run of leaves of `range` that the verb wants to change.
// `next` is where to go on where nothing was frozen, or the leaf to split.
template <typename Verb>
TdpMmu::LeafStep TdpMmu::FreezeLeafRun(const TdpRoot& root, GfnRange range,
                                       Verb& verb, FrozenRun& run,
                                       BackingPin& pin, Gfn* next,
                                       PageLevel* split_level) {
  using leaf_changes_internal::kContentionInterval;
  using leaf_changes_internal::kMaxVisits;
  int visited = 0;
  for (TdpIterator it(root.tree(), range); it.valid(); it.Next()) {
    // Progress first: a yield that has seen nothing new would come back to the
    // same entry for ever.
    ++visited;
    const bool pause =
        visited >= kMaxVisits ||
        (!Verb::kLockless && visited % kContentionInterval == 0 &&
         mmu_lock_.IsContended());
    if (pause && it.next_gfn() > range.start) {
      *next = it.next_gfn();
      return LeafStep::kYield;
    }
    Spte spte = it.spte();
    if (spte.IsFrozen()) {
      if (Verb::kSkipsFrozen) continue;
      *next = it.next_gfn();
      return LeafStep::kWait;
    }
    const PageLevel level = it.level();
    if (!spte.IsLeaf(level)) continue;
    const LeafChange change = verb.Plan(spte, it.gfn(), level);
    if (!change.wanted) continue;
    *next = it.next_gfn();
    if (level > PageLevel::k2M || verb.MustSplit(it.gfn(), level)) {
      verb.OnSplit(it.covered());
      *split_level = level;
      return LeafStep::kNeedsSplit;
    }
    if (!pin || !pin->range().Contains(it.gfn())) {
      pin = backings_.Pin(it.gfn(), PinMode::kUnmap).pin;
      // A memslot goes away only after its entries: this one is gone as well.
      if (!pin) return LeafStep::kRetry;
    }
    // Who asked has made sure that writes can be held back here. So the memslot
    // came, or moved here, since, and has nothing to do with it.
    if (change.step == HostStep::kReadOnly && !pin->write_protects()) continue;
    if (!run.TryExtend(it.entry(), it.gfn(), level, spte, change.target)) {
      return LeafStep::kRetry;
    }
    run.set_host_step(change.step);
    // The leaves that follow in the same table, as long as the host call is the
    // same.
    const PageLevel parent = ParentLevel(level);
    const Gfn table_end = AlignDown(it.gfn(), parent) + FramesPerEntry(parent);
    const uint64_t frames = FramesPerEntry(level);
    // Unmapping is what takes the host longest: no more at once than a fault
    // can wait for.
    const uint64_t max_frames = change.step == HostStep::kUnmap
                                    ? FramesPerEntry(PageLevel::k2M)
                                    : uint64_t{limits::kMaxHostCallFrames};
    const Gfn end = std::min(
        {table_end, range.end, pin->range().end, it.gfn() + max_frames});
    const int count =
        static_cast<int>((end - it.gfn() + frames - 1) / frames) - 1;
    const Gfn plan_end = std::min(end, verb.PlanEnd(it.gfn(), level));
    // A leaf that reaches beyond is not counted.
    const int like_count = static_cast<int>((plan_end - it.gfn()) / frames) - 1;
    run.FreezeLeaves(count, like_count, [&](Gfn gfn, Spte old, Spte& target) {
      const LeafChange other = verb.Plan(old, gfn, level);
      target = other.target;
      return other.wanted && other.step == change.step &&
             !verb.MustSplit(gfn, level);
    });
    return LeafStep::kFrozen;
  }
  return LeafStep::kDone;
}

template <typename Verb>
MmuProgress TdpMmu::ChangeLeaves(const TdpRoot& root, GfnRange range,
                                 Verb& verb, StopCheck stop) {
  MmuProgress progress{.next_gfn = range.start};
  FrozenBackoff backoff;
  BackingPin pin;
  while (progress.next_gfn < range.end) {
    FrozenRun run;
    Gfn next = progress.next_gfn;
    PageLevel split_level = PageLevel::k2M;
    const GfnRange rest = {progress.next_gfn, range.end};
    LeafStep step;
    if constexpr (Verb::kLockless) {
      RcuReadGuard rcu(rcu_);
      step = FreezeLeafRun(root, rest, verb, run, pin, &next, &split_level);
    } else {
      MmuReadGuard lock(mmu_lock_);
      RcuReadGuard rcu(rcu_);
      step = FreezeLeafRun(root, rest, verb, run, pin, &next, &split_level);
    }
    switch (step) {
      case LeafStep::kDone:
        progress.next_gfn = range.end;
        return progress;
      case LeafStep::kWait:
      case LeafStep::kRetry:
        // Who waits owns nothing that others may wait for.
        pin.Reset();
        backoff.Wait();
        break;
      case LeafStep::kYield:
        counters_.Add(MmuCounter::kYields, 1);
        TDP_TRACE(yield, next.value());
        break;
      case LeafStep::kNeedsSplit:
        pin.Reset();
        progress.status = SplitFirst(root, next, split_level);
        if (!progress.status.ok()) return progress;
        next = progress.next_gfn;
        break;
      case LeafStep::kFrozen: {
        const GfnRange changed = run.range();
        const int64_t entries = run.size();
        if (Verb::kSweeps) sequence_.Sweep(changed);
        const WindowCall call = run.host_step() == HostStep::kUnmap
                                    ? WindowCall::kUnmap
                                    : WindowCall::kProtect;
        const HostCallResult host = MakeLeavesTrue(*pin, run);
        pin->Wake(changed);
        if (host.error != 0) {
          progress.status = HostFrameError(call, changed.start, host.error);
          return progress;
        }
        verb.OnChanged(changed);
        progress.changed_frames += static_cast<int64_t>(changed.size());
        progress.changed_entries += entries;
        next = changed.end;
        break;
      }
    }
    progress.next_gfn = std::max(progress.next_gfn, std::min(next, range.end));
    // Every call makes progress: a spent budget is asked about after some.
    if (progress.next_gfn > range.start && stop()) return progress;
  }
  return progress;
}

// The same in every root: an invalidated one may still map a frame, and only
// one root maps it.
template <typename Verb>
MmuProgress TdpMmu::ChangeLeavesInAllRoots(GfnRange range, Verb& verb,
                                           StopCheck stop) {
  range = range.Intersect(span());
  MmuProgress progress{.next_gfn = range.end};
  sequence_.Advance(range);
  // The roots are listed first: one that joins later holds newer mappings.
  for (const RootRef& root : GetRoots(WhichRoots::kAll)) {
    const MmuProgress one = ChangeLeaves(*root, range, verb, stop);
    progress.changed_frames += one.changed_frames;
    progress.changed_entries += one.changed_entries;
    progress.next_gfn = std::min(progress.next_gfn, one.next_gfn);
    if (!one.status.ok()) {
      progress.status = one.status;
      return progress;
    }
  }
  return progress;
}

}  // namespace tdp

#endif  // ENGINE_MMU_LEAF_CHANGES_H_
