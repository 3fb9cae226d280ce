// Faults of the guest, and the accesses that KVM leaves to the daemon.

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

// Unbacked accesses that the event log takes in a second: a guest can make
// them by the million.
constexpr int64_t kUnbackedEventsPerSecond = 64;

// Events read at once. One thread answers them in turn, so few: another thread
// may be idle.
constexpr size_t kEventsPerRead = 4;

// What one fault can map.
GfnRange BlockOf(Gfn gfn) {
  const Gfn block = AlignDown(gfn, PageLevel::k2M);
  return {block, block + FramesPerEntry(PageLevel::k2M)};
}

bool HasReason(const absl::Status& status, ErrorReason reason) {
  const std::optional<ErrorDetail> detail = DetailOf(status);
  return detail.has_value() && detail->reason == reason;
}

// A source that did not give its bytes.
bool IsSourceFailure(const absl::Status& status) {
  return HasReason(status, ErrorReason::kSourceFailed);
}

FaultKind KindOf(const FaultOutcome& outcome) {
  switch (outcome.result) {
    case FaultResult::kFixed:
      return FaultKind::kFixed;
    case FaultResult::kSpurious:
      return FaultKind::kSpurious;
    case FaultResult::kWriteProtected:
      return FaultKind::kWriteProtected;
    case FaultResult::kForbidden:
      return FaultKind::kWaiting;
    case FaultResult::kFailed:
      return IsSourceFailure(outcome.status) ? FaultKind::kSourceError
                                             : FaultKind::kWaiting;
    case FaultResult::kUnbacked:
    case FaultResult::kChanging:
    case FaultResult::kRetry:
      break;
  }
  return FaultKind::kRetry;
}

}  // namespace

WaitReason VmImpl::ReasonToWait(const FaultOutcome& outcome,
                                const Memslot& memslot, Gfn gfn,
                                bool write) const {
  if (outcome.result == FaultResult::kFailed) {
    return {.cause = IsSourceFailure(outcome.status) ? WaitCause::kSourceFailed
                                                     : WaitCause::kHostFailed,
            .detail = std::string(outcome.status.message()),
            .needs_tables =
                HasReason(outcome.status, ErrorReason::kPageTableLimit)};
  }
  if (write && !memslot.writable()) {
    return {.cause = WaitCause::kProtection,
            .detail = "the memslot is read-only"};
  }
  if (!Allows(mmu_->LimitOf(gfn), {.read = true, .write = write})) {
    return {.cause = WaitCause::kProtection,
            .detail = "ProtectRange limits the access"};
  }
  return {.cause = WaitCause::kFaultPolicy};
}

void VmImpl::ServeFaults(const std::shared_ptr<Memslot>& memslot) {
  std::array<FaultEvent, kEventsPerRead> events;
  for (size_t count = events.size(); count == events.size();) {
    const uint64_t sweeps = mmu_->ReadSweeps();
    const absl::StatusOr<size_t> read =
        memslot->ReadFaults(absl::MakeSpan(events));
    if (!read.ok()) return;
    count = *read;
    std::array<ChangeSequence::Snapshot, kEventsPerRead> sequences;
    // Before the first is served, which may wake the others' vCPUs.
    for (size_t i = 0; i < count; ++i) {
      sequences[i] = mmu_->ReadSequence(events[i].gfn);
    }
    for (size_t i = 0; i < count; ++i) {
      ServeFault({.memslot = memslot,
                  .event = events[i],
                  .sweeps = sweeps,
                  .sequence = sequences[i],
                  .begin = absl::Now()});
    }
  }
}

void VmImpl::ServeFault(GuestFault fault) {
  Memslot& memslot = *fault.memslot;
  // While the memslot moves or goes, all vCPUs are outside: the event is stale
  // and nobody sleeps. The pin keeps it that way until the event is answered.
  if (!memslot.TryPin(PinMode::kUnmap)) return;
  const BackingPin pin(&memslot, /*for_map=*/false);
  const FaultEvent& event = fault.event;
  if (event.gfn != memslot.range().start + event.index) {
    // It has moved, and all vCPUs were outside.
    memslot.Wake(HostPageOf(memslot, memslot.range().start + event.index));
    return;
  }
  const bool waits = fault.loaded ? vcpus_->StillFaults(memslot, event)
                                  : vcpus_->BeginFault(memslot, event);
  if (!waits) return;
  // What waits for a client, or is forbidden, needs no content yet.
  const bool loads =
      !memslot.faults_wait() &&
      Allows(mmu_->LimitOf(event.gfn), {.read = true, .write = event.write}) &&
      (!event.write || memslot.writable());
  if (!fault.loaded && loads && !memslot.LoadsQuickly(event.gfn)) {
    // The vCPU stays known as faulting: whoever wants it outside ejects it, and
    // then a loader finds it gone.
    const uint64_t page =
        event.index & ~(FramesPerEntry(memslot.host_page_level()) - 1);
    pager_->RunInLoader(memslot, page, [this, fault] { LoadAndServe(fault); });
    return;
  }
  const FaultOutcome outcome =
      mmu_->HandleFault({.gfn = event.gfn,
                         .write = event.write,
                         .may_install = !memslot.faults_wait(),
                         .sequence = fault.sequence,
                         .sweeps = fault.sweeps});
  // Before anybody can see the access wait.
  fault_stats_.Record(KindOf(outcome), absl::Now() - fault.begin);
  vcpus_->EndFault(memslot, event);
  switch (outcome.result) {
    case FaultResult::kFixed:
    case FaultResult::kWriteProtected:
      ReleaseGranted(BlockOf(event.gfn));
      break;
    case FaultResult::kSpurious:
    case FaultResult::kRetry:
      break;
    case FaultResult::kUnbacked:
    case FaultResult::kChanging:
      // Whoever changes the memslot wants the vCPU outside.
      vcpus_->Eject(memslot, event, nullptr);
      break;
    case FaultResult::kForbidden:
    case FaultResult::kFailed: {
      const WaitReason reason =
          ReasonToWait(outcome, memslot, event.gfn, event.write);
      vcpus_->Eject(memslot, event, &reason);
      break;
    }
  }
}

// Loads first. Should the fault turn out to be stale after that, which a slow
// disk makes likely, its vCPU comes back and finds the content there.
void VmImpl::LoadAndServe(GuestFault fault) {
  {
    Memslot& memslot = *fault.memslot;
    if (!memslot.TryPin(PinMode::kUnmap)) return;
    const BackingPin pin(&memslot, /*for_map=*/false);
    const Gfn gfn = fault.event.gfn;
    if (gfn != memslot.range().start + fault.event.index) return;
    if (!vcpus_->StillFaults(memslot, fault.event)) return;
    // A failure is seen, and told of, when the fault is served.
    memslot.LoadContent({gfn, gfn + 1}).IgnoreError();
  }
  fault.loaded = true;
  ServeFault(std::move(fault));
}

void VmImpl::ReleaseGranted(GfnRange range) {
  if (vcpus_->waiting_count() == 0) return;
  vcpus_->Release([&](const WaitingAccess& access) {
    return range.Contains(access.gfn) && IsGranted(access);
  });
}

VcpuHost::AccessAnswer VmImpl::MakeAccess(const GuestExit& exit) {
  const Gfn gfn = GfnOf(exit.gpa);
  const std::shared_ptr<Memslot> memslot = memslots_.Find(gfn);
  if (memslot == nullptr) return AnswerUnbacked(exit);
  const absl::Time begin = absl::Now();
  const FaultOutcome outcome =
      mmu_->HandleFault({.gfn = gfn,
                         .write = exit.is_write,
                         .may_install = !memslot->faults_wait()});
  fault_stats_.Record(KindOf(outcome), absl::Now() - begin);
  switch (outcome.result) {
    case FaultResult::kUnbacked:
    case FaultResult::kChanging:
    case FaultResult::kRetry:
      return {.kind = AccessAnswer::Kind::kAgain};
    case FaultResult::kForbidden:
    case FaultResult::kFailed:
      return {.kind = AccessAnswer::Kind::kWait,
              .reason = ReasonToWait(outcome, *memslot, gfn, exit.is_write)};
    case FaultResult::kFixed:
    case FaultResult::kWriteProtected:
      ReleaseGranted(BlockOf(gfn));
      break;
    case FaultResult::kSpurious:
      break;
  }
  // The entry grants the access and the vCPU is inside, so the memslot stays.
  AccessAnswer answer;
  absl::Status status;
  if (exit.is_write) {
    uint64_t written = 0;
    status = memslot->WriteBytes(
        exit.gpa, absl::MakeConstSpan(exit.bytes.data(), exit.bytes.size()),
        &written);
  } else {
    answer.read_bytes.resize(exit.size);
    status = memslot->ReadBytes(exit.gpa, absl::MakeSpan(answer.read_bytes));
  }
  if (!status.ok()) {
    return {.kind = AccessAnswer::Kind::kWait,
            .reason = ReasonToWait({FaultResult::kFailed, status}, *memslot,
                                   gfn, exit.is_write)};
  }
  return answer;
}

VcpuHost::AccessAnswer VmImpl::AnswerUnbacked(const GuestExit& exit) {
  fault_stats_.Record(FaultKind::kUnbacked, absl::ZeroDuration());
  // Relaxed: two threads at the turn of a second may report some more.
  const int64_t second = absl::ToUnixSeconds(absl::Now());
  if (unbacked_second_.exchange(second, std::memory_order_relaxed) != second) {
    unbacked_reported_.store(0, std::memory_order_relaxed);
  }
  if (unbacked_reported_.fetch_add(1, std::memory_order_relaxed) <
      kUnbackedEventsPerSecond) {
    events_.Append(UnbackedAccessEvent{
        .gfn = GfnOf(exit.gpa),
        .access = {.read = !exit.is_write, .write = exit.is_write}});
  }
  AccessAnswer answer;
  if (!exit.is_write) answer.read_bytes.assign(exit.size, '\xff');
  return answer;
}

// Whether an access that waits need not wait any longer, as things are now.
bool VmImpl::IsGranted(const WaitingAccess& access) {
  const std::shared_ptr<Memslot> memslot = memslots_.Find(access.gfn);
  if (memslot == nullptr) return true;  // looks again, and finds nothing
  if (access.cause == WaitCause::kFaultPolicy && !memslot->faults_wait()) {
    return true;
  }
  const bool write = access.access.write;
  if (access.cause == WaitCause::kProtection &&
      (!write || memslot->writable()) &&
      Allows(mmu_->LimitOf(access.gfn), access.access)) {
    return true;
  }
  const WalkedEntry entry = mmu_->WalkFrame(access.gfn);
  return entry.spte.IsLeaf(entry.level) && entry.spte.IsReadable() &&
         (!write || entry.spte.IsMmuWritable());
}

bool VmImpl::NeedNotWait(const WaitingAccess& access,
                         const WaitReason& reason) {
  // First, so that no room is missed in between.
  return (reason.needs_tables && mmu_->AwaitTableRoom()) || IsGranted(access);
}

void VmImpl::ReleaseFailed() {
  vcpus_->Release([](const WaitingAccess& access) {
    return access.cause == WaitCause::kHostFailed;
  });
}

absl::Status VmImpl::ResolveAccess(int64_t access_id, Verdict verdict) {
  if (absl::Status s = CheckUsable("take a verdict"); !s.ok()) return s;
  const std::vector<WaitingAccess> waiting = vcpus_->ListWaiting();
  const auto access = std::find_if(
      waiting.begin(), waiting.end(),
      [&](const WaitingAccess& one) { return one.access_id == access_id; });
  const absl::Status gone =
      NotFoundError(absl::StrCat(name(), "/waitingAccesses/", access_id));
  if (access == waiting.end()) return gone;
  switch (verdict) {
    case Verdict::kGrant:
      if (absl::Status s = GrantAccess(*access); !s.ok()) return s;
      // Released by the grant, or it looks again and finds it.
      vcpus_->Release(access_id);
      return absl::OkStatus();
    case Verdict::kRetry:
      return vcpus_->Release(access_id) ? absl::OkStatus() : gone;
    case Verdict::kKill: {
      MutexLock lifecycle(lifecycle_mutex_);
      MutexLock lock(state_mutex_);
      // What the last vCPU reports finds the VM FAILED.
      const bool runs =
          state_ == VmState::kRunning || state_ == VmState::kPaused;
      if (!runs || !vcpus_->RequestStopIfWaiting(access_id)) return gone;
      SetStateLocked(VmState::kFailed);
      return absl::OkStatus();
    }
  }
  return InternalError("an unknown verdict");
}

// Lifts a limit that stands in the way, and maps the frame as the access needs
// it, whatever the fault policy. A write that the dirty log is to notice is
// left to the fault that makes it.
absl::Status VmImpl::GrantAccess(const WaitingAccess& access) {
  const bool write = access.access.write;
  const Access needed = {.read = true, .write = write};
  const std::shared_ptr<Memslot> memslot = memslots_.Find(access.gfn);
  if (memslot == nullptr) return absl::OkStatus();  // looks again
  // What is granted is a page of the host.
  const GfnRange page = HostPageOf(*memslot, access.gfn);
  if (write && !memslot->writable()) {
    return MakeError(
        ErrorReason::kOperationConflict,
        absl::StrCat(memslot->name(),
                     " is read-only, and a grant never exceeds the memslot; "
                     "clear read_only with UpdateMemslot"),
        {{"memslot", memslot->name()}, {"gfn", Hex(access.gfn.value())}});
  }
  if (memslot->TryPin(PinMode::kUnmap)) {
    // First, because it fails most easily, and then nothing has changed.
    const BackingPin pin(memslot.get(), /*for_map=*/false);
    if (memslot->range().Contains(page)) {
      if (absl::Status s = memslot->LoadContent(page); !s.ok()) return s;
    }
  }
  const Access limit = mmu_->LimitOf(access.gfn);
  if (Allows(limit, needed)) return MapGranted(*memslot, access);
  const Access lifted = {
      .read = true,
      .write = limit.write || write || !memslot->write_protects()};
  const auto never_stop = [] { return false; };
  const MmuProgress progress = mmu_->ProtectRange(page, lifted, never_stop);
  if (!progress.status.ok()) return progress.status;
  const absl::Status status = MapGranted(*memslot, access);
  if (!status.ok() && mmu_->LimitOf(access.gfn) == lifted) {
    // Should that fail too, the page has a limit more generous than before,
    // and nothing else.
    (void)mmu_->ProtectRange(page, limit, never_stop);
  }
  return status;
}

absl::Status VmImpl::MapGranted(const Memslot& memslot,
                                const WaitingAccess& access) {
  const bool write = access.access.write && !memslot.tracks_writes();
  while (true) {
    const FaultOutcome outcome =
        mmu_->HandleFault({.gfn = access.gfn, .write = write, .around = false});
    switch (outcome.result) {
      case FaultResult::kFixed:
      case FaultResult::kSpurious:
      case FaultResult::kWriteProtected:
        ReleaseGranted(HostPageOf(memslot, access.gfn));
        return absl::OkStatus();
      case FaultResult::kUnbacked:
        return absl::OkStatus();
      case FaultResult::kFailed:
        return outcome.status;
      case FaultResult::kForbidden:
        return MakeError(
            ErrorReason::kOperationConflict,
            absl::StrCat("frame ", Hex(access.gfn.value()),
                         " was protected again meanwhile; try again"),
            {{"gfn", Hex(access.gfn.value())}});
      case FaultResult::kChanging:
      case FaultResult::kRetry:
        // An owner is at work, or the memslot changes, for microseconds.
        absl::SleepFor(absl::Microseconds(10));
        break;
    }
  }
}

void VmImpl::OnWaiting(const WaitingAccess& access) { events_.Append(access); }

void VmImpl::OnExited(int index, const std::string& reason, bool failed,
                      bool last) {
  events_.Append(VcpuExitedEvent{.vcpu_index = index, .reason = reason});
  {
    MutexLock lock(state_mutex_);
    const bool runs = state_ == VmState::kRunning || state_ == VmState::kPaused;
    if (runs && failed) {
      SetStateLocked(VmState::kFailed);
    } else if (runs && last) {
      SetStateLocked(VmState::kStopped);
    }
  }
  if (failed) vcpus_->RequestStop();
  FinishWaiters(index);
}

}  // namespace tdp
