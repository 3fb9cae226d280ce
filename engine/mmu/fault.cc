// Serving guest faults.

#include <cerrno>

#include "engine/base/errors.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {

FaultOutcome TdpMmu::HandleFault(const PageFault& fault) {
  const ChangeSequence::Snapshot sequence =
      fault.sequence.value_or(sequence_.Read(fault.gfn));
  PinResult found = backings_.Pin(fault.gfn, PinMode::kMap);
  if (!found.pin) {
    return {found.changing ? FaultResult::kChanging : FaultResult::kUnbacked,
            absl::OkStatus()};
  }
  Backing& backing = *found.pin;
  if (fault.write && !backing.writable()) {
    return {FaultResult::kForbidden, absl::OkStatus()};
  }
  bool content_lost = false;
  if (FaultOutcome fast = TryFastFault(fault, backing, &content_lost);
      fast.result != FaultResult::kRetry) {
    return fast;
  }

  if (!fault.may_install) {
    // Before content is loaded for nothing. What counts is the same question
    // when the entry is frozen.
    RcuReadGuard rcu(rcu_);
    const Spte spte = FindLastEntry(Roots().valid().tree(), fault.gfn).spte;
    if (!spte.IsPresent() && !spte.IsFrozen()) {
      return {FaultResult::kForbidden, absl::OkStatus()};
    }
  }

  const GfnRange frame = {fault.gfn, fault.gfn + 1};
  GfnRange want = frame;
  if (backing.max_fault_level() >= PageLevel::k2M) {
    const Gfn block = AlignDown(fault.gfn, PageLevel::k2M);
    const GfnRange whole = {block, block + FramesPerEntry(PageLevel::k2M)};
    if (backing.range().Contains(whole)) want = whole;
  }
  const MapIntent intent = {
      .max_level = want == frame ? PageLevel::k4K : PageLevel::k2M,
      .needed = {.read = true, .write = fault.write},
      .make_writable = backing.writable(),
      .for_fault = true,
      .may_install = fault.may_install,
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
      case StepResult::kFrozen:
        // The owner wakes the vCPU when it is done.
        CountFault(FaultResult::kRetry);
        return {FaultResult::kRetry, absl::OkStatus()};
      case StepResult::kNothingToDo:
        // Another thread was faster, or a limit stands: look as it is now.
        content_lost = false;
        if (FaultOutcome fast = TryFastFault(fault, backing, &content_lost);
            fast.result != FaultResult::kRetry) {
          return fast;
        }
        if (content_lost && ++content_retries > kMaxContentRetries) {
          return {FaultResult::kFailed, HostMapError(fault.gfn, EFAULT)};
        }
        want = frame;
        break;
      case StepResult::kTableInUse:
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
                  HostMapError(fault.gfn, step.host_errno)};
        }
        break;
    }
  }
}

// Serves what needs no table and no mmu_lock: a frame whose entry is present in
// the valid root. kRetry: it is not, or it changed; take the slow path. Without
// mmu_lock the root may become invalid meanwhile; the entry stays frozen until
// the host call has ended, so the zapper of the root waits for it.
FaultOutcome TdpMmu::TryFastFault(const PageFault& fault, Backing& backing,
                                  bool* content_lost) {
  const FaultOutcome slow = {FaultResult::kRetry, absl::OkStatus()};
  FrozenRun run;
  Spte old;
  {
    RcuReadGuard rcu(rcu_);
    LastEntry last = FindLastEntry(Roots().valid().tree(), fault.gfn);
    if (!last.spte.IsLeaf(last.level)) return slow;
    const bool allowed =
        last.spte.IsReadable() &&
        (!fault.write || last.spte.IsWritable() || last.spte.IsMmuWritable());
    if (!allowed) return {FaultResult::kForbidden, absl::OkStatus()};
    if (!last.spte.IsAccessed()) return slow;
    // Granting a write to a 1G leaf takes more than one host call.
    if (last.level > PageLevel::k2M &&
        !last.spte.Permits({.read = true, .write = fault.write})) {
      return slow;
    }
    old = last.spte;
    if (!run.TryExtend(last.entry, AlignDown(fault.gfn, last.level), last.level,
                       last.spte)) {
      return slow;
    }
  }
  CountHostCall();
  if (old.Permits({.read = true, .write = fault.write})) {
    // The host dropped the mapping by itself, or another thread fixed the
    // frame after the vCPU went to sleep.
    const HostCallResult host =
        backing.Map({fault.gfn, fault.gfn + 1},
                    old.IsWritable() ? HostProtection::kReadWrite
                                     : HostProtection::kReadOnly);
    const GfnRange range = run.range();
    CommitRun(run, [&](int) { return old; });
    if (host.error == 0) CountFault(FaultResult::kSpurious);
    backing.Wake(range);
    // EFAULT: the frame lost its page; the slow path loads it again.
    if (host.error == EFAULT) {
      *content_lost = true;
      return slow;
    }
    if (host.error != 0) {
      return {FaultResult::kFailed, HostMapError(fault.gfn, host.error)};
    }
    return {FaultResult::kSpurious, absl::OkStatus()};
  }
  const GfnRange range = run.range();
  const HostCallResult host =
      backing.Protect(range, HostProtection::kReadWrite);
  // Part of the leaf may be writable after a failure: it is taken away, or
  // else the entry grants it, so that the host never maps more.
  bool unmapped = false;
  if (host.error != 0) {
    CountHostCall();
    unmapped = backing.Unmap(range).error == 0;
  }
  CommitRun(run, [&](int) {
    return unmapped ? Spte::NonPresent() : old.WithWrite();
  });
  if (host.error == 0) CountFault(FaultResult::kWriteProtected);
  backing.Wake(range);
  if (host.error != 0) return slow;
  return {FaultResult::kWriteProtected, absl::OkStatus()};
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
