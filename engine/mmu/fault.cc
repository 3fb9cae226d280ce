// Serving guest faults.

#include <cerrno>
#include <optional>

#include "engine/base/errors.h"
#include "engine/base/trace.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {

FaultOutcome TdpMmu::HandleFault(const PageFault& fault) {
  const FaultOutcome outcome = ServeFault(fault);
  TDP_TRACE(fault, fault.gfn.value(), fault.write,
            static_cast<int>(outcome.result));
  return outcome;
}

FaultOutcome TdpMmu::ServeFault(const PageFault& asked) {
  PageFault fault = asked;
  const ChangeSequence::Snapshot sequence =
      fault.sequence.value_or(sequence_.Read(fault.gfn));
  PinResult found = backings_.Pin(fault.gfn, PinMode::kMap);
  if (!found.pin) {
    return {found.changing ? FaultResult::kChanging : FaultResult::kUnbacked,
            absl::OkStatus()};
  }
  Backing& backing = *found.pin;
  // What the host cannot map read-only is granted whole.
  if (!backing.write_protects()) fault.write = true;
  const auto look_again = [&] {
    CountFault(FaultResult::kRetry);
    backing.Wake({fault.gfn, fault.gfn + 1});
    return FaultOutcome{FaultResult::kRetry, absl::OkStatus()};
  };
  if (fault.sweeps.has_value() && *fault.sweeps != sequence_.sweeps()) {
    return look_again();
  }
  if (fault.write && !backing.writable()) {
    return {FaultResult::kForbidden, absl::OkStatus()};
  }
  if (const auto result = TryInstallFrame(fault, backing, sequence)) {
    return {*result, absl::OkStatus()};
  }
  bool content_lost = false;
  if (auto fast = TryFastFault(fault, backing, sequence, &content_lost)) {
    return *std::move(fast);
  }

  const Access needed = {.read = true, .write = fault.write};
  {
    // Before content is loaded for nothing. What counts is the same questions
    // when the entry is frozen.
    RcuReadGuard rcu(rcu_);
    const Spte spte = FindLastEntry(Roots().valid().tree(), fault.gfn).spte;
    const bool installs = !spte.IsPresent() && !spte.IsFrozen();
    const bool limited =
        !Roots().HasInvalid() && !Allows(limits_.At(fault.gfn).access, needed);
    if (installs && (!fault.may_install || limited)) {
      if (sequence_.Changed(fault.gfn, sequence)) return look_again();
      return {FaultResult::kForbidden, absl::OkStatus()};
    }
  }

  // The least that can be mapped.
  const GfnRange frame = HostPageOf(backing, fault.gfn);
  GfnRange want = frame;
  const bool tracks = backing.tracks_writes();
  if (backing.max_fault_level() >= PageLevel::k2M && !tracks) {
    const Gfn block = AlignDown(fault.gfn, PageLevel::k2M);
    const GfnRange whole = {block, block + FramesPerEntry(PageLevel::k2M)};
    if (backing.range().Contains(whole)) want = whole;
  }
  const MapIntent intent = {
      .max_level = want.size() == 1 ? PageLevel::k4K : PageLevel::k2M,
      .needed = needed,
      .make_writable = backing.writable() && (fault.write || !tracks),
      .for_fault = true,
      .may_install = fault.may_install,
      .frame_by_frame = tracks,
      .sequence = sequence};
  PageTableCache cache(pool_);
  for (int content_retries = 0;;) {
    if (absl::Status s = backing.LoadContent(want); !s.ok()) {
      if (want == frame) return {FaultResult::kFailed, s};
      // What its neighbours lack is no concern of this frame.
      want = frame;
      continue;
    }
    const MapStep step = MapOnce(backing, want, intent, cache);
    switch (step.result) {
      case StepResult::kMapped:
        return {FaultResult::kFixed, absl::OkStatus()};
      case StepResult::kWriteGranted:
        return {FaultResult::kWriteProtected, absl::OkStatus()};
      case StepResult::kForbidden:
        return {FaultResult::kForbidden, absl::OkStatus()};
      case StepResult::kStale:
        // The vCPU is awake; if it still needs the frame, it faults again.
        return {FaultResult::kRetry, absl::OkStatus()};
      case StepResult::kFrozen:
        // The owner wakes the vCPU when it is done.
        CountFault(FaultResult::kRetry);
        return {FaultResult::kRetry, absl::OkStatus()};
      case StepResult::kNothingToDo:
        // Another thread was faster, or a limit stands: look as it is now.
        content_lost = false;
        if (auto fast = TryFastFault(fault, backing, sequence, &content_lost)) {
          return *std::move(fast);
        }
        if (content_lost && ++content_retries > kMaxContentRetries) {
          return {FaultResult::kFailed,
                  HostFrameError(WindowCall::kMap, fault.gfn, EFAULT)};
        }
        want = frame;
        break;
      case StepResult::kNoHugeLeaf:
        want = frame;
        break;
      case StepResult::kLostRace:
        break;
      case StepResult::kInvalidRootHeld:
        if (absl::Status s = ZapInInvalidRoots(want); !s.ok()) {
          return {FaultResult::kFailed, s};
        }
        break;
      case StepResult::kNeedsTable: {
        const int levels = static_cast<int>(root_level_) - 1;
        if (absl::Status s = cache.TopUp(levels); !s.ok()) {
          return {FaultResult::kFailed, s};
        }
        break;
      }
      case StepResult::kNeedsSplit:
        if (absl::Status s = SplitInValidRoot(fault.gfn); !s.ok()) {
          return {FaultResult::kFailed, s};
        }
        break;
      case StepResult::kHostFailed:
        if (want != frame) {
          want = frame;
          break;
        }
        if (step.host_errno != EFAULT ||
            ++content_retries > kMaxContentRetries) {
          return {FaultResult::kFailed,
                  HostFrameError(WindowCall::kMap, fault.gfn, step.host_errno)};
        }
        break;
    }
  }
}

// Serves what most faults ask for: a frame that is not mapped, in a leaf table
// that is linked, with nothing in the way. Nothing: nothing has changed; the
// general path finds out what is different.
std::optional<FaultResult> TdpMmu::TryInstallFrame(
    const PageFault& fault, Backing& backing,
    ChangeSequence::Snapshot sequence) {
  if (!fault.may_install || backing.max_fault_level() > PageLevel::k4K) {
    return std::nullopt;
  }
  const Gfn gfn = fault.gfn;
  const Access needed = {.read = true, .write = fault.write};
  {
    // Before content is loaded for nothing.
    RcuReadGuard rcu(rcu_);
    PageTable* table = Roots().valid().directory->Find(gfn);
    if (table == nullptr ||
        !ReadSpte(table->EntryAt(IndexIn(gfn, PageLevel::k4K)))
             .IsNonPresent() ||
        !Allows(limits_.At(gfn).access, needed)) {
      return std::nullopt;
    }
  }
  if (!backing.LoadContent({gfn, gfn + 1}).ok()) return std::nullopt;
  const bool tracks = backing.tracks_writes();
  GfnRange want = {gfn, gfn + 1};
  // While writes are tracked, what is written is granted alone.
  if (const int around = fault.around ? backing.fault_around() : 1;
      around > 1 && !(tracks && fault.write)) {
    const auto frames = static_cast<uint64_t>(around);
    const Gfn start(gfn.value() - gfn.value() % frames);
    const Gfn block = AlignDown(gfn, PageLevel::k2M);
    want = backing.ReadyAround(
        gfn, GfnRange{start, start + frames}.Intersect(
                 {block, block + FramesPerEntry(PageLevel::k2M)}));
  }
  FrozenRun run;
  bool stale = false;
  {
    MmuReadGuard lock(mmu_lock_);
    RcuReadGuard rcu(rcu_);
    const RootSet& roots = Roots();
    PageTable* table = roots.valid().directory->Find(gfn);
    const AccessLimits::Run limit = limits_.At(gfn);
    if (roots.HasInvalid() || table == nullptr ||
        !Allows(limit.access, needed)) {
      return std::nullopt;
    }
    want.start = FirstFree(table, gfn, want.start);
    // One limit for all of them: that of the frame.
    while (limits_.At(want.start).end <= gfn) {
      want.start = limits_.At(want.start).end;
    }
    want.end = std::min(want.end, limit.end);
    const bool make_writable = backing.writable() && (fault.write || !tracks);
    run.FreezeNew(table->EntryAt(IndexIn(want.start, PageLevel::k4K)),
                  want.start, static_cast<int>(want.size()),
                  NewLeaf(LeafSource(backing), want.start, PageLevel::k4K,
                          make_writable, limit.access));
    stale = sequence_.Changed(gfn, sequence);
  }
  const GfnRange range = run.range();
  if (!range.Contains(gfn)) {
    // Another thread was faster.
    RestoreRun(run);
    if (!range.empty()) backing.Wake(range);
    return std::nullopt;
  }
  if (stale) {
    RestoreRun(run);
    CountFault(FaultResult::kRetry);
    backing.Wake(range);
    return FaultResult::kRetry;
  }
  // Before the host lets anybody write.
  if (fault.write) backing.NoteWritten(gfn);
  CountHostCall();
  const HostCallResult host =
      backing.Map(range, HostProtectionOf(run.target(0)));
  for (int i = static_cast<int>(host.done_frames); i < run.size(); ++i) {
    run.set_target(i, Spte::NonPresent());
  }
  CommitTargets(run);
  if (host.done_frames <= gfn - range.start) {
    backing.Wake(range);
    return std::nullopt;
  }
  CountFault(FaultResult::kFixed);
  backing.Wake(range);
  return FaultResult::kFixed;
}

// The first frame from `start` on behind which, up to `gfn`, no entry is
// present.
Gfn TdpMmu::FirstFree(PageTable* table, Gfn gfn, Gfn start) {
  while (gfn > start) {
    const Gfn before(gfn.value() - 1);
    if (!ReadSpte(table->EntryAt(IndexIn(before, PageLevel::k4K)))
             .IsNonPresent()) {
      break;
    }
    gfn = before;
  }
  return gfn;
}

// Serves what needs no table and no mmu_lock: a frame whose entry is present in
// the valid root. Without
// mmu_lock the root may become invalid meanwhile; the entry stays frozen until
// the host call has ended, so the zapper of the root waits for it. (Linux
// arch/x86/kvm/mmu/mmu.c, fast_page_fault().)
std::optional<FaultOutcome> TdpMmu::TryFastFault(
    const PageFault& fault, Backing& backing, ChangeSequence::Snapshot sequence,
    bool* content_lost) {
  FrozenRun run;
  Spte old;
  bool spurious = false;
  {
    RcuReadGuard rcu(rcu_);
    const LastEntry last = FindLastEntry(Roots().valid().tree(), fault.gfn);
    old = last.spte;
    if (!old.IsLeaf(last.level)) return std::nullopt;
    const bool allowed =
        old.IsReadable() && (!fault.write || old.IsMmuWritable());
    if (!allowed) {
      return FaultOutcome{FaultResult::kForbidden, absl::OkStatus()};
    }
    spurious = old.Permits({.read = true, .write = fault.write});
    // Mapping a 1G leaf, or granting a write to it, takes more than one host
    // call.
    if (last.level > PageLevel::k2M && !spurious) return std::nullopt;
    const Spte target = fault.write ? old.WithWrite() : old.WithAccessed();
    if (!run.TryExtend(last.entry, AlignDown(fault.gfn, last.level), last.level,
                       last.spte, target)) {
      return std::nullopt;
    }
  }
  if (!spurious && sequence_.Changed(fault.gfn, sequence)) {
    const GfnRange leaf = run.range();
    RestoreRun(run);
    CountFault(FaultResult::kRetry);
    backing.Wake(leaf);
    return FaultOutcome{FaultResult::kRetry, absl::OkStatus()};
  }
  // Looked at by the owner: whoever has switched the dirty log on finds the
  // entry FROZEN, or is seen here.
  const bool grants_huge = run.level() > backing.host_page_level() &&
                           fault.write && !old.IsWritable();
  if (grants_huge && backing.tracks_writes()) {
    const GfnRange leaf = run.range();
    RestoreRun(run);
    backing.Wake(leaf);
    return std::nullopt;
  }
  const GfnRange range = run.range();
  const HostProtection protection = HostProtectionOf(run.target(0));
  // Before the host lets anybody write. What the entry grants was noted.
  if (fault.write && !spurious) backing.NoteWritten(fault.gfn);
  CountHostCall();
  HostCallResult host;
  if (spurious) {
    // The host dropped the mapping by itself, or another thread fixed the frame
    // after the vCPU went to sleep.
    host = backing.Map(HostPageOf(backing, fault.gfn), protection);
  } else if (!old.IsAccessed()) {
    // Aged, and touched now.
    host = backing.Map(range, protection);
  } else {
    host = backing.Protect(range, protection);
  }
  if (host.error != 0) {
    // Part of the leaf may be mapped or writable: it is taken away, or else the
    // entry grants it, so that the host never maps more.
    bool unmapped = false;
    if (!spurious) {
      CountHostCall();
      unmapped = backing.Unmap(range).error == 0;
    }
    if (spurious) {
      run.set_target(0, old);
    } else if (unmapped) {
      run.set_target(0, old.IsAccessed() ? Spte::NonPresent() : old);
    }
  }
  const FaultResult result =
      spurious ? FaultResult::kSpurious
               : (old.IsAccessed() ? FaultResult::kWriteProtected
                                   : FaultResult::kFixed);
  CommitTargets(run);
  if (host.error == 0) CountFault(result);
  backing.Wake(range);
  if (host.error == 0) return FaultOutcome{result, absl::OkStatus()};
  // EFAULT: the frame lost its page; the slow path loads it again.
  *content_lost = host.error == EFAULT;
  if (spurious && host.error != EFAULT) {
    return FaultOutcome{
        FaultResult::kFailed,
        HostFrameError(WindowCall::kMap, fault.gfn, host.error)};
  }
  return std::nullopt;
}

// Counts a fault. Before its vCPU is woken: who sees the guest go on finds the
// fault counted.
void TdpMmu::CountFault(FaultResult result) {
  switch (result) {
    case FaultResult::kFixed:
      counters_.Add(MmuCounter::kFaultFixed, 1);
      break;
    case FaultResult::kSpurious:
      counters_.Add(MmuCounter::kFaultSpurious, 1);
      break;
    case FaultResult::kRetry:
      counters_.Add(MmuCounter::kFaultRetry, 1);
      break;
    case FaultResult::kWriteProtected:
      counters_.Add(MmuCounter::kFaultWriteProtected, 1);
      break;
    default:
      break;
  }
}

}  // namespace tdp
