// Installing leaves: what faults and MapRange share, and MapRange.

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/errors.h"
#include "engine/mmu/frozen_backoff.h"
#include "engine/mmu/host_pages.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
TdpMmu::MapPlan TdpMmu::PlanFor(Spte old, Gfn gfn, PageLevel level,
                                const LeafSource& source,
                                const MapIntent& intent, Access limit) {
  if (!old.IsPresent()) {
    return {HostAction::kMap,
            NewLeaf(source, gfn, level, intent.make_writable, limit)};
  }
  if (old.Permits(intent.needed) || !old.IsReadable()) return {};
  const bool grant_write = intent.needed.write && !old.IsWritable();
  if (grant_write && !old.IsMmuWritable()) {
    // A map grants what it can.
    if (intent.for_fault || old.IsAccessed()) return {};
    return {HostAction::kMap, old.WithAccessed()};
  }
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
  if (intent.for_fault && step.result == StepResult::kStale) {
    CountFault(FaultResult::kRetry);
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
  const LeafSource source(backing);
  const Gfn block = AlignDown(want.start, PageLevel::k2M);
  const bool want_huge =
      intent.max_level >= PageLevel::k2M &&
      want == GfnRange{block, block + FramesPerEntry(PageLevel::k2M)};
  PageTable* table = root.table;
  PageLevel level = root.role.level;
  while (level > PageLevel::k4K) {
    const SptePtr entry = table->EntryAt(IndexIn(want.start, level));
    const Gfn gfn = AlignDown(want.start, level);
    const Spte spte = ReadSpte(entry);
    if (spte.IsFrozen()) return {StepResult::kFrozen, want.start};
    const bool huge_here = want_huge && level == PageLevel::k2M;
    if (spte.IsNonPresent() || (huge_here && spte.IsTable(level))) {
      const AccessLimits::Run limit = limits_.At(want.start);
      if (want_huge && limit.end < want.end) {
        return {StepResult::kNoHugeLeaf, want.start};
      }
      if (spte.IsNonPresent() && !MayInstall(intent, limit.access)) {
        return {StepResult::kForbidden, std::min(limit.end, want.end)};
      }
    }
    if (spte.IsLeaf(level) || (huge_here && spte.IsNonPresent())) {
      plan = PlanFor(spte, gfn, level, source, intent,
                     limits_.At(want.start).access);
      if (plan.action == HostAction::kNone) {
        const Gfn end = gfn + FramesPerEntry(level);
        return {StepResult::kNothingToDo, std::min(end, want.end)};
      }
      const bool grants = plan.target.IsWritable() && !spte.IsWritable();
      if (level > PageLevel::k2M || (intent.frame_by_frame && grants &&
                                     level > backing.host_page_level())) {
        return {StepResult::kNeedsSplit, want.start};
      }
      if (!run.TryExtend(entry, gfn, level, spte, plan.target)) {
        return {StepResult::kLostRace, want.start};
      }
      if (!GiveUpIfStale(run, intent)) return {};
      return {.result = StepResult::kStale, .next = want.start, .wake = true};
    }
    if (huge_here && spte.IsTable(level)) {
      return FreezeOverTable(root, source, entry, spte, want, intent, run,
                             plan);
    }
    if (spte.IsNonPresent()) {
      if (cache.size() == 0) return {StepResult::kNeedsTable, want.start};
      (void)TryLinkTable(root, entry, gfn, level, cache);
      continue;  // linked by whomever: look again
    }
    if (!spte.IsTable(level)) continue;  // lost a race: look again
    table = TableOf(spte);
    level = ChildLevel(level);
  }
  return FreezeLeaves(table, source, want, intent, run, plan);
}

// An empty table gives way to a huge leaf, as in KVM; its children stay frozen
// for good.
TdpMmu::MapStep TdpMmu::FreezeOverTable(const TdpRoot& root,
                                        const LeafSource& source, SptePtr entry,
                                        Spte spte, GfnRange want,
                                        const MapIntent& intent, FrozenRun& run,
                                        MapPlan& plan) {
  PageTable* table = TableOf(spte);
  if (!IsEmptyTable(table)) return {StepResult::kNoHugeLeaf, want.start};
  if (!MayInstall(intent, limits_.At(want.start).access)) {
    return {StepResult::kForbidden, want.end};
  }
  plan = PlanFor(Spte::NonPresent(), want.start, PageLevel::k2M, source, intent,
                 limits_.At(want.start).access);
  if (!root.directory->MayUnlink(want.start, table) ||
      !run.TryExtend(entry, want.start, PageLevel::k2M, spte, plan.target)) {
    return {StepResult::kLostRace, want.start};
  }
  if (GiveUpIfStale(run, intent)) {
    return {.result = StepResult::kStale, .next = want.start, .wake = true};
  }
  if (TryFreezeEmptyTable(table)) {
    root.directory->Clear(want.start);
    return {};
  }
  RestoreRun(run);
  return {.result = StepResult::kLostRace, .next = want.start, .wake = true};
}

// Whether a frame that is not mapped may be, as far as `limit` goes. A fault
// needs its access granted; a map grants what it can.
bool TdpMmu::MayInstall(const MapIntent& intent, Access limit) {
  if (!intent.may_install || !limit.read) return false;
  return !intent.for_fault || Allows(limit, intent.needed);
}

// Frames that are not mapped, up to the first one that is.
TdpMmu::MapStep TdpMmu::FreezeNewLeaves(SptePtr entry, const LeafSource& source,
                                        GfnRange want, const MapIntent& intent,
                                        Access limit, FrozenRun& run,
                                        MapPlan& plan) {
  plan = PlanFor(Spte::NonPresent(), want.start, PageLevel::k4K, source, intent,
                 limit);
  run.FreezeNew(entry, want.start, static_cast<int>(want.size()), plan.target);
  if (run.empty()) return {StepResult::kLostRace, want.start};
  if (GiveUpIfStale(run, intent)) {
    return {.result = StepResult::kStale, .next = want.start, .wake = true};
  }
  return {StepResult::kNothingToDo, run.range().end};
}

TdpMmu::MapStep TdpMmu::FreezeLeaves(PageTable* table, const LeafSource& source,
                                     GfnRange want, const MapIntent& intent,
                                     FrozenRun& run, MapPlan& plan) {
  AccessLimits::Run limit = limits_.At(want.start);
  Gfn gfn = want.start;
  SptePtr entry = table->EntryAt(IndexIn(gfn, PageLevel::k4K));
  if (ReadSpte(entry).IsNonPresent() && MayInstall(intent, limit.access)) {
    return FreezeNewLeaves(entry, source, {gfn, std::min(limit.end, want.end)},
                           intent, limit.access, run, plan);
  }
  for (; gfn < want.end; gfn += 1, entry = entry + 1) {
    if (gfn >= limit.end) limit = limits_.At(gfn);
    const Spte spte = ReadSpte(entry);
    if (spte.IsFrozen()) {
      if (gfn == want.start) return {StepResult::kFrozen, gfn};
      break;
    }
    if (spte.IsNonPresent() && !MayInstall(intent, limit.access)) {
      if (gfn == want.start) {
        const Gfn end = intent.may_install ? limit.end : gfn + 1;
        return {StepResult::kForbidden, std::min(end, want.end)};
      }
      break;
    }
    const MapPlan next =
        PlanFor(spte, gfn, PageLevel::k4K, source, intent, limit.access);
    if (gfn == want.start) {
      plan = next;
    } else if (next.action != plan.action ||
               next.target.IsWritable() != plan.target.IsWritable()) {
      break;
    }
    if (next.action == HostAction::kNone) continue;
    if (!run.TryExtend(entry, gfn, PageLevel::k4K, spte, next.target)) {
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
  RestoreRun(run);
  return true;
}

TdpMmu::MapStep TdpMmu::CommitMap(Backing& backing, const MapIntent& intent,
                                  FrozenRun& run, const MapPlan& plan) {
  const GfnRange range = run.range();
  const PageLevel level = run.level();
  const bool maps = plan.action == HostAction::kMap;
  const HostProtection protection = HostProtectionOf(plan.target);
  // Before the host lets anybody write. A run of more than the fault's host
  // page is not made while writes are tracked.
  if (intent.for_fault && intent.needed.write &&
      range == HostPageOf(backing, range.start)) {
    backing.NoteWritten(range.start);
  }
  CountHostCall();
  const HostCallResult host = maps ? backing.Map(range, protection)
                                   : backing.Protect(range, protection);
  PageTable* replaced = nullptr;
  if (run.old_spte(0).IsTable(level)) replaced = TableOf(run.old_spte(0));
  bool partial_leaf = false;
  int64_t new_entries = maps ? run.size() : 0;
  if (host.error != 0) {
    // Entries of the run that are true now; the rest gets what is true or
    // stricter.
    const int done = static_cast<int>(host.done_frames / FramesPerEntry(level));
    partial_leaf = maps && host.done_frames % FramesPerEntry(level) != 0;
    bool rest_unmapped = false;
    bool rest_granted = false;
    if (done < run.size() && (!maps || partial_leaf)) {
      CountHostCall();
      rest_unmapped = backing.Unmap({run.gfn(done), range.end}).error == 0;
      // What cannot be taken away is granted, as was asked: the host may map
      // less than the entries say, never more.
      rest_granted = !rest_unmapped;
    }
    for (int i = done; i < run.size() && !rest_granted; ++i) {
      const bool gone = rest_unmapped || replaced != nullptr;
      run.set_target(i, gone ? Spte::NonPresent() : run.old_spte(i));
    }
    if (maps && !rest_granted) new_entries = done;
  }
  CommitTargets(run);
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
    if (TryWriteSpte(table->EntryAt(i), Spte::NonPresent(), Spte::Frozen())) {
      continue;
    }
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
    for (TdpIterator it(root.tree(), range, PageLevel::k2M); it.valid();
         it.Next()) {
      if (it.spte().IsFrozen() || it.spte().IsLeaf(it.level())) return true;
      if (it.level() != PageLevel::k2M || !it.spte().IsTable(it.level())) {
        continue;
      }
      // Most of the work under mmu_lock: without the iterator. If the table was
      // unlinked since, its entries are FROZEN, which counts as held.
      PageTable* table = TableOf(it.spte());
      const GfnRange part = range.Intersect(it.covered());
      for (Gfn gfn = part.start; gfn < part.end; gfn += 1) {
        if (!ReadSpte(table->EntryAt(IndexIn(gfn, PageLevel::k4K)))
                 .IsNonPresent()) {
          return true;
        }
      }
    }
  }
  return false;
}

absl::Status TdpMmu::ZapInInvalidRoots(GfnRange range) {
  for (const RootRef& root : GetRoots(WhichRoots::kInvalid)) {
    const MmuProgress progress = ZapLeaves(*root, range, [] { return false; });
    if (!progress.status.ok()) return progress.status;
  }
  return absl::OkStatus();
}

absl::Status TdpMmu::ChangingError(Gfn gfn) {
  return MakeError(
      ErrorReason::kOperationConflict,
      absl::StrCat("the memslot that holds frame ", Hex(gfn.value()),
                   " is being changed or deleted; try again when that has "
                   "ended"),
      {{"gfn", Hex(gfn.value())}});
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
  const bool write = intent.needed.write;
  int content_retries = 0;
  bool content_ready = false;
  FrozenBackoff backoff;
  while (want.start < want.end) {
    if (!content_ready) {
      intent.sequence = sequence_.Read(want.start);
      // What is mapped is not written yet.
      intent.frame_by_frame = backing.tracks_writes();
      intent.make_writable = write && !intent.frame_by_frame;
      intent.needed.write = intent.make_writable;
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
        // A limit forbids any access: there is nothing to map.
        break;
      case StepResult::kNoHugeLeaf:
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
          return HostFrameError(WindowCall::kMap, want.start, step.host_errno);
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
  if (progress.status.ok()) progress.status = CheckHostPages(backings_, range);
  if (progress.status.ok()) {
    progress.status = CheckLeafLevel(backings_, range, options.max_level);
  }
  if (!progress.status.ok()) return progress;
  PageTableCache cache(pool_);
  while (progress.next_gfn < range.end) {
    PinResult found = backings_.Pin(progress.next_gfn, PinMode::kMap);
    if (!found.pin) {
      progress.status = found.changing ? ChangingError(progress.next_gfn)
                                       : GfnNotBackedError(progress.next_gfn);
      return progress;
    }
    const bool write = found.pin->writable() &&
                       (options.write || !found.pin->write_protects());
    const MapIntent intent = {.max_level = options.max_level,
                              .needed = {.read = true, .write = write},
                              .make_writable = write,
                              .for_fault = false,
                              .may_install = true,
                              .frame_by_frame = false,
                              .sequence = {}};
    const GfnRange rest = {progress.next_gfn, range.end};
    const GfnRange piece =
        FirstEntryOf(rest.Intersect(found.pin->range()), PageLevel::k2M);
    // Again: it may be another memslot by now.
    progress.status = CheckHostPages(*found.pin, rest);
    if (progress.status.ok()) {
      progress.status = CheckLeafLevel(*found.pin, options.max_level);
    }
    if (progress.status.ok()) {
      progress.status =
          MapPiece(*found.pin, piece, intent, cache, &progress.changed_frames);
    }
    if (!progress.status.ok()) return progress;
    progress.next_gfn = piece.end;
    if (stop()) return progress;
  }
  return progress;
}

}  // namespace tdp
