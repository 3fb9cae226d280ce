// ApplyBatch: how a batch runs, and what it does on the host.

#include "engine/mmu/batch.h"

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/base/trace.h"
#include "engine/mmu/frozen_backoff.h"

namespace tdp {
namespace {

// How often a batch begins anew because others are in the way.
constexpr int kMaxTries = 8;

}  // namespace

BatchOutcome TdpMmu::ApplyBatch(absl::Span<const MmuOperation> operations) {
  Batch batch(*this, operations);
  return batch.Run();
}

BatchOutcome TdpMmu::Batch::Run() {
  BatchOutcome outcome;
  for (const MmuOperation& operation : operations_) {
    const bool grants = operation.kind == MmuOperation::Kind::kMap ||
                        operation.kind == MmuOperation::Kind::kProtect;
    if (!grants) continue;
    outcome.status = mmu_.CheckBacked(operation.range);
    if (!outcome.status.ok()) return outcome;
  }
  std::vector<AccessLimit> changes;
  for (const MmuOperation& operation : operations_) {
    if (operation.kind == MmuOperation::Kind::kProtect) {
      changes.push_back({operation.range, operation.access});
    }
  }
  FrozenBackoff backoff;
  for (int tries = 0; tries < kMaxTries; ++tries) {
    if (tries > 0) backoff.Wait();
    outcome.status = Prepare();
    if (!outcome.status.ok()) return outcome;
    MutexLock limits_lock(mmu_.limits_.change_mutex());
    absl::StatusOr<std::unique_ptr<AccessLimits::List>> limits =
        mmu_.limits_.Prepare(changes);
    outcome.status = limits.status();
    if (!limits.ok()) return outcome;
    // The way back is prepared too: it needs no memory then.
    std::unique_ptr<AccessLimits::List> limits_before =
        mmu_.limits_.CopyOfCurrent();
    first_frozen_ = absl::Now();
    if (!FreezeParts() || !Settle(*limits)) {
      Unfreeze();
      WakeAll();
      continue;
    }
    size_t failed = 0;
    int error = MakeHostCalls(/*granting=*/false, &failed);
    if (error == 0) error = MakeHostCalls(/*granting=*/true, &failed);
    if (error != 0) {
      if (!changes.empty()) mmu_.limits_.Publish(std::move(limits_before));
      outcome.status = ErrorOf(entries_[failed], error);
      TakeBack();
    }
    WriteTargets();
    TDP_TRACE(batch, operations_.size(), entries_.size(), tries + 1);
    outcome.hold_duration = absl::Now() - first_frozen_;
    outcome.changed_entries = static_cast<int64_t>(entries_.size());
    WakeAll();
    if (error == 0) return outcome;
    for (const AccessLimit& change : changes) {
      mmu_.FollowWithdrawnLimit(change);
    }
    outcome.changed_entries = 0;
    // EFAULT: the content was discarded after it was loaded.
    if (error != EFAULT) return outcome;
  }
  if (outcome.status.ok()) {
    outcome.status = MakeError(
        ErrorReason::kOperationConflict,
        absl::StrCat("other changes of the same frames were in the way ",
                     kMaxTries, " times; try again"),
        {{"tries", absl::StrCat(kMaxTries)}});
  }
  return outcome;
}

HostCallResult TdpMmu::Batch::Call(const Entry& entry, GfnRange run) {
  Backing& backing = *entry.backing;
  switch (entry.step) {
    case BatchStep::kUnmap:
      return backing.Unmap(run);
    case BatchStep::kReadOnly:
      return backing.Protect(run, HostProtection::kReadOnly);
    case BatchStep::kNone:
      break;
    case BatchStep::kMap:
      return backing.Map(run, HostProtection::kReadWrite);
    case BatchStep::kMapReadOnly:
      return backing.Map(run, HostProtection::kReadOnly);
    case BatchStep::kGrant:
      return backing.Protect(run, HostProtection::kReadWrite);
  }
  return {run.size(), 0};
}

absl::Status TdpMmu::Batch::ErrorOf(const Entry& entry, int error) {
  switch (entry.step) {
    case BatchStep::kUnmap:
      return HostFrameError(WindowCall::kUnmap, entry.gfn, error);
    case BatchStep::kMap:
    case BatchStep::kMapReadOnly:
      return HostFrameError(WindowCall::kMap, entry.gfn, error);
    default:
      return HostFrameError(WindowCall::kProtect, entry.gfn, error);
  }
}

int TdpMmu::Batch::MakeHostCalls(bool granting, size_t* failed) {
  for (size_t i = 0; i < entries_.size();) {
    Entry& first = entries_[i];
    GfnRange run = first.range();
    size_t end = i + 1;
    while (end < entries_.size() && entries_[end].step == first.step &&
           entries_[end].gfn == run.end &&
           entries_[end].backing == first.backing &&
           run.size() + entries_[end].range().size() <=
               static_cast<uint64_t>(limits::kMaxHostCallFrames)) {
      run.end = entries_[end++].range().end;
    }
    if (Grants(first.step) == granting && first.step != BatchStep::kNone) {
      mmu_.CountHostCall();
      const HostCallResult host = Call(first, run);
      // A failed call may have changed any part of its run.
      for (size_t k = i; k < end; ++k) entries_[k].called = true;
      if (host.error != 0) {
        *failed = i;
        return host.error;
      }
    }
    i = end;
  }
  return 0;
}

void TdpMmu::Batch::TakeBack() {
  for (Entry& entry : entries_) {
    if (Grants(entry.step) && entry.called) {
      mmu_.CountHostCall();
      // What cannot be taken away is granted: the host never maps more than the
      // entries say.
      if (entry.backing->Unmap(entry.range()).error != 0) continue;
    }
    // The host may map less than that now: the next touch brings it back.
    entry.target = entry.old;
  }
}

void TdpMmu::Batch::WriteTargets() {
  EntryDelta delta;
  for (const Entry& entry : entries_) {
    OnChanged(entry.old, entry.target, entry.gfn, entry.level, delta);
  }
  // Before the values are seen: see CommitTargets().
  mmu_.Account(delta);
  RcuReadGuard rcu(mmu_.rcu_);
  for (const Entry& entry : entries_) {
    WriteOwnedSpte(entry.location, entry.target);
  }
}

void TdpMmu::Batch::Unfreeze() {
  RcuReadGuard rcu(mmu_.rcu_);
  for (const Entry& entry : entries_) WriteOwnedSpte(entry.location, entry.old);
  entries_.clear();
}

// Threads that met a frozen entry rely on its owner.
void TdpMmu::Batch::WakeAll() {
  for (const Piece& piece : pieces_) piece.pin->Wake(piece.range);
}

}  // namespace tdp
