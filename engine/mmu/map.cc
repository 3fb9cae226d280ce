// Installing leaves: what faults and MapRange share, and MapRange.

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/errors.h"
#include "engine/mmu/frozen_backoff.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

absl::Status ChangingError(Gfn gfn) {
  return MakeError(
      ErrorReason::kOperationConflict,
      absl::StrCat("the memslot that holds frame ", Hex(gfn.value()),
                   " is being changed or deleted; try again when that has "
                   "ended"),
      {{"gfn", Hex(gfn.value())}});
}

// The frames of `range` that lie in the 2 MiB block of its first frame.
GfnRange FirstBlock(GfnRange range) {
  const Gfn block_end =
      AlignDown(range.start, PageLevel::k2M) + FramesPerEntry(PageLevel::k2M);
  return {range.start, std::min(range.end, block_end)};
}

}  // namespace

TdpMmu::MapPlan TdpMmu::PlanFor(Spte old, Gfn gfn, PageLevel level,
                                const Backing& backing,
                                const MapIntent& intent) const {
  if (!old.IsPresent()) {
    const bool writable = backing.writable();
    return {
        HostAction::kMap,
        Spte::MakeLeaf({.pfn = PfnOf(gfn, backing.range(), backing.base_pfn()),
                        .writable = writable && intent.make_writable,
                        .mmu_writable = writable,
                        .host_writable = writable,
                        .accessed = true},
                       level)};
  }
  if (old.Permits(intent.needed) || !old.IsReadable()) return {};
  const bool grant_write = intent.needed.write && !old.IsWritable();
  if (grant_write && !old.IsMmuWritable()) return {};
  if (!old.IsAccessed()) {
    return {HostAction::kMap,
            grant_write ? old.WithWrite() : old.WithAccessed()};
  }
  return {HostAction::kProtect, old.WithWrite()};
}

TdpMmu::MapStep TdpMmu::MapOnce(Backing& backing, GfnRange want,
                                const MapIntent& intent,
                                PageTableCache& cache) {
  FrozenRun run;
  MapPlan plan;
  MapStep step = {
      .result = StepResult::kStale, .next = want.start, .wake = true};
  {
    MmuReadGuard lock(mmu_lock_);
    RcuReadGuard rcu(rcu_);
    // Under mmu_lock the valid root stays valid. An invalidated root that maps
    // none of the frames now never will again.
    const RootSet& roots = Roots();
    if (roots.HasInvalid() && HeldByInvalidRoot(roots, want)) {
      return {StepResult::kInvalidRootHeld, want.start};
    }
    // Looked at before anything is linked, too, so that a fault on a root that
    // is gone leaves no table in the new one.
    if (!sequence_.Changed(want.start, intent.sequence)) {
      step =
          FreezeForMap(roots.valid(), backing, want, intent, cache, run, plan);
    }
  }
  if (step.wake) backing.Wake(want);
  if (run.empty()) return step;
  return CommitMap(backing, intent, run, plan);
}

TdpMmu::MapStep TdpMmu::FreezeForMap(const TdpRoot& root,
                                     const Backing& backing, GfnRange want,
                                     const MapIntent& intent,
                                     PageTableCache& cache, FrozenRun& run,
                                     MapPlan& plan) {
  const Gfn block = AlignDown(want.start, PageLevel::k2M);
  const bool want_huge =
      intent.max_level >= PageLevel::k2M &&
      want == GfnRange{block, block + FramesPerEntry(PageLevel::k2M)};
  PageTable* table = root.table;
  PageLevel level = root.role.level;
  while (level > PageLevel::k4K) {
    const SptePtr entry = table->EntryAt(IndexIn(want.start, level));
    const Gfn gfn = AlignDown(want.start, level);
    Spte spte = ReadSpte(entry);
    if (spte.IsFrozen()) return {StepResult::kFrozen, want.start};
    if (spte.IsNonPresent() && !intent.may_install) {
      return {StepResult::kForbidden, want.start};
    }
    const bool huge_here = want_huge && level == PageLevel::k2M;
    if (spte.IsLeaf(level) || (huge_here && spte.IsNonPresent())) {
      plan = PlanFor(spte, gfn, level, backing, intent);
      if (plan.action == HostAction::kNone) {
        const Gfn end = gfn + FramesPerEntry(level);
        return {StepResult::kNothingToDo, std::min(end, want.end)};
      }
      if (level > PageLevel::k2M) return {StepResult::kNeedsSplit, want.start};
      if (!run.TryExtend(entry, gfn, level, spte)) {
        return {StepResult::kLostRace, want.start};
      }
      if (!GiveUpIfStale(run, intent)) return {};
      return {.result = StepResult::kStale, .next = want.start, .wake = true};
    }
    if (huge_here && spte.IsTable(level)) {
      // An empty table gives way to the leaf, as in KVM; its children stay
      // frozen for good.
      if (!IsEmptyTable(TableOf(spte))) {
        return {StepResult::kTableInUse, want.start};
      }
      if (!run.TryExtend(entry, gfn, level, spte)) {
        return {StepResult::kLostRace, want.start};
      }
      if (GiveUpIfStale(run, intent)) {
        return {.result = StepResult::kStale, .next = want.start, .wake = true};
      }
      if (TryFreezeEmptyTable(TableOf(run.old_spte(0)))) {
        plan = PlanFor(Spte::NonPresent(), gfn, level, backing, intent);
        return {};
      }
      CommitRun(run, [&](int i) { return run.old_spte(i); });
      return {
          .result = StepResult::kLostRace, .next = want.start, .wake = true};
    }
    if (spte.IsNonPresent()) {
      if (cache.size() == 0) return {StepResult::kNeedsTable, want.start};
      if (!TryLinkTable(entry, spte, gfn, level, cache)) continue;
    }
    if (!spte.IsTable(level)) continue;  // lost a race: look again
    table = TableOf(spte);
    level = ChildLevel(level);
  }
  return FreezeLeaves(table, backing, want, intent, run, plan);
}

TdpMmu::MapStep TdpMmu::FreezeLeaves(PageTable* table, const Backing& backing,
                                     GfnRange want, const MapIntent& intent,
                                     FrozenRun& run, MapPlan& plan) {
  Gfn gfn = want.start;
  for (; gfn < want.end; gfn += 1) {
    const SptePtr entry = table->EntryAt(IndexIn(gfn, PageLevel::k4K));
    Spte spte = ReadSpte(entry);
    if (spte.IsFrozen()) {
      if (gfn == want.start) return {StepResult::kFrozen, gfn};
      break;
    }
    if (spte.IsNonPresent() && !intent.may_install) {
      if (gfn == want.start) return {StepResult::kForbidden, gfn};
      break;
    }
    const MapPlan next = PlanFor(spte, gfn, PageLevel::k4K, backing, intent);
    if (gfn == want.start) {
      plan = next;
    } else if (next.action != plan.action ||
               next.target.IsWritable() != plan.target.IsWritable()) {
      break;
    }
    if (next.action == HostAction::kNone) continue;
    if (!run.TryExtend(entry, gfn, PageLevel::k4K, spte)) {
      if (run.empty()) return {StepResult::kLostRace, gfn};
      break;
    }
  }
  if (!run.empty() && GiveUpIfStale(run, intent)) {
    return {.result = StepResult::kStale, .next = want.start, .wake = true};
  }
  return {StepResult::kNothingToDo, gfn};
}

bool TdpMmu::GiveUpIfStale(FrozenRun& run, const MapIntent& intent) {
  if (!sequence_.Changed(run.gfn(0), intent.sequence)) return false;
  CommitRun(run, [&](int i) { return run.old_spte(i); });
  return true;
}

TdpMmu::MapStep TdpMmu::CommitMap(Backing& backing, const MapIntent& intent,
                                  FrozenRun& run, const MapPlan& plan) {
  const GfnRange range = run.range();
  const PageLevel level = run.level();
  const bool maps = plan.action == HostAction::kMap;
  const HostProtection protection = plan.target.IsWritable()
                                        ? HostProtection::kReadWrite
                                        : HostProtection::kReadOnly;
  CountHostCall();
  const HostCallResult host = maps ? backing.Map(range, protection)
                                   : backing.Protect(range, protection);
  // Entries of the run that are true now; the rest gets what is true or
  // stricter.
  const int done = static_cast<int>(host.done_frames / FramesPerEntry(level));
  const bool partial_leaf =
      maps && host.done_frames % FramesPerEntry(level) != 0;
  bool rest_unmapped = false;
  bool rest_granted = false;
  if (done < run.size() && (!maps || partial_leaf)) {
    CountHostCall();
    rest_unmapped = backing.Unmap({run.gfn(done), range.end}).error == 0;
    // What cannot be taken away is granted, as was asked: the host may map
    // less than the entries say, never more.
    rest_granted = !rest_unmapped;
  }
  PageTable* replaced = nullptr;
  if (run.old_spte(0).IsTable(level)) replaced = TableOf(run.old_spte(0));
  int64_t new_entries = 0;
  CommitRun(run, [&](int i) {
    const Spte old = run.old_spte(i);
    if (i < done || rest_granted) {
      if (maps) ++new_entries;
      return replaced != nullptr
                 ? plan.target
                 : PlanFor(old, run.gfn(i), level, backing, intent).target;
    }
    return rest_unmapped || replaced != nullptr ? Spte::NonPresent() : old;
  });
  if (replaced != nullptr) pool_.Retire(replaced);
  if (intent.for_fault && host.error == 0) {
    CountFault(maps ? FaultResult::kFixed : FaultResult::kWriteProtected);
  }
  backing.Wake(range);
  // Retired tables are bounded; this thread owns nothing now.
  if (replaced != nullptr && rcu_.OverLimit()) rcu_.WaitUntilUnderLimit();
  MapStep step;
  step.next = range.start + host.done_frames;
  if (partial_leaf) step.next = range.start;
  step.mapped_frames =
      new_entries * static_cast<int64_t>(FramesPerEntry(level));
  step.host_errno = host.error;
  if (host.error != 0) {
    step.result = StepResult::kHostFailed;
  } else {
    step.result = maps ? StepResult::kMapped : StepResult::kWriteGranted;
  }
  return step;
}

bool TdpMmu::IsEmptyTable(PageTable* table) {
  for (int i = 0; i < kEntriesPerTable; ++i) {
    if (!ReadSpte(table->EntryAt(i)).IsNonPresent()) return false;
  }
  return true;
}

// Freezes all children of a table whose parent the caller has frozen, or none.
bool TdpMmu::TryFreezeEmptyTable(PageTable* table) {
  for (int i = 0; i < kEntriesPerTable; ++i) {
    Spte expected = Spte::NonPresent();
    if (TryWriteSpte(table->EntryAt(i), expected, Spte::Frozen())) continue;
    while (i-- > 0) {
      WriteOwnedSpte(table->EntryAt(i), Spte::NonPresent());
    }
    return false;
  }
  return true;
}

bool TdpMmu::HeldByInvalidRoot(const RootSet& roots, GfnRange range) const {
  for (const TdpRoot& root : roots.roots) {
    if (!root.role.invalid) continue;
    for (TdpIterator it(root.tree(), range); it.valid(); it.Next()) {
      if (it.spte().IsFrozen() || it.spte().IsLeaf(it.level())) return true;
    }
  }
  return false;
}

absl::Status TdpMmu::ZapInInvalidRoots(GfnRange range) {
  std::vector<int64_t> ids = RootIds();
  for (size_t i = 1; i < ids.size(); ++i) {
    const MmuProgress progress = ZapLeaves(ids[i], range, [] { return false; });
    if (!progress.status.ok()) return progress.status;
  }
  return absl::OkStatus();
}

absl::Status TdpMmu::CheckBacked(GfnRange range) {
  for (Gfn gfn = range.start; gfn < range.end;) {
    PinResult found = backings_.Pin(gfn, PinMode::kUnmap);
    if (!found.pin) {
      return found.changing ? ChangingError(gfn) : GfnNotBackedError(gfn);
    }
    gfn = found.pin->range().end;
  }
  return absl::OkStatus();
}

absl::Status TdpMmu::MapPiece(Backing& backing, GfnRange want, MapIntent intent,
                              PageTableCache& cache, int64_t* mapped_frames) {
  int content_retries = 0;
  bool content_ready = false;
  FrozenBackoff backoff;
  while (want.start < want.end) {
    if (!content_ready) {
      intent.sequence = sequence_.Read(want.start);
      if (absl::Status s = backing.LoadContent(want); !s.ok()) return s;
      content_ready = true;
    }
    const MapStep step = MapOnce(backing, want, intent, cache);
    *mapped_frames += step.mapped_frames;
    want.start = std::max(want.start, step.next);
    switch (step.result) {
      case StepResult::kNothingToDo:
      case StepResult::kMapped:
      case StepResult::kWriteGranted:
      case StepResult::kLostRace:
        break;
      case StepResult::kFrozen:
        backoff.Wait();
        break;
      case StepResult::kStale:
        content_ready = false;
        break;
      case StepResult::kForbidden:
        TDP_CHECK(false, "MapRange may install");
        break;
      case StepResult::kTableInUse:
        intent.max_level = PageLevel::k4K;
        break;
      case StepResult::kInvalidRootHeld:
        if (absl::Status s = ZapInInvalidRoots(want); !s.ok()) return s;
        break;
      case StepResult::kNeedsTable: {
        const int levels = static_cast<int>(root_level_) - 1;
        if (absl::Status s = cache.TopUp(levels); !s.ok()) return s;
        break;
      }
      case StepResult::kNeedsSplit:
        if (absl::Status s = SplitInValidRoot(want.start); !s.ok()) return s;
        break;
      case StepResult::kHostFailed:
        if (step.host_errno != EFAULT ||
            ++content_retries > kMaxContentRetries) {
          return HostMapError(want.start, step.host_errno);
        }
        content_ready = false;
        break;
    }
  }
  return absl::OkStatus();
}

MmuProgress TdpMmu::MapRange(GfnRange range, const MapOptions& options,
                             StopCheck stop) {
  MmuProgress progress{.next_gfn = range.start};
  progress.status = CheckBacked(range);
  if (!progress.status.ok()) return progress;
  PageTableCache cache(pool_);
  while (progress.next_gfn < range.end) {
    PinResult found = backings_.Pin(progress.next_gfn, PinMode::kMap);
    if (!found.pin) {
      progress.status = found.changing ? ChangingError(progress.next_gfn)
                                       : GfnNotBackedError(progress.next_gfn);
      return progress;
    }
    const bool write = options.write && found.pin->writable();
    const MapIntent intent = {.max_level = options.max_level,
                              .needed = {.read = true, .write = write},
                              .make_writable = write,
                              .for_fault = false,
                              .may_install = true,
                              .sequence = {}};
    const GfnRange piece = FirstBlock(
        GfnRange{progress.next_gfn, range.end}.Intersect(found.pin->range()));
    progress.status =
        MapPiece(*found.pin, piece, intent, cache, &progress.changed_frames);
    if (!progress.status.ok()) return progress;
    progress.next_gfn = piece.end;
    if (stop()) return progress;
  }
  return progress;
}

}  // namespace tdp
