// Removing leaves.

#include "engine/mmu/host_pages.h"
#include "engine/mmu/leaf_changes.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

struct ZapVerb {
  static constexpr bool kLockless = false;
  static constexpr bool kSkipsFrozen = false;
  static constexpr bool kSweeps = false;

  LeafChange Plan(Spte, Gfn, PageLevel) {
    return {Spte::NonPresent(), HostStep::kUnmap};
  }
  Gfn PlanEnd(Gfn, PageLevel) { return kGfnEnd; }
  bool MustSplit(Gfn, PageLevel) { return false; }
  void OnSplit(GfnRange) {}
  void OnChanged(GfnRange) {}
};

}  // namespace

MmuProgress TdpMmu::ZapRange(GfnRange range, StopCheck stop) {
  if (absl::Status s = CheckHostPages(backings_, range); !s.ok()) {
    return {.next_gfn = range.start, .status = s};
  }
  ZapVerb verb;
  return ChangeLeavesInAllRoots(range, verb, stop);
}

MmuProgress TdpMmu::ZapLeaves(const TdpRoot& root, GfnRange range,
                              StopCheck stop) {
  ZapVerb verb;
  return ChangeLeaves(root, range, verb, stop);
}

// Makes the host call of a run and writes the final values. After a failure
// they are the old ones: the host then maps what they say or less. Where it may
// map more, it maps nothing, or the entries say so.
HostCallResult TdpMmu::MakeLeavesTrue(Backing& backing, FrozenRun& run) {
  HostCallResult host = {run.range().size(), 0};
  switch (run.host_step()) {
    case HostStep::kNone:
      break;
    case HostStep::kUnmap:
      CountHostCall();
      host = backing.Unmap(run.range());
      break;
    case HostStep::kReadOnly:
      CountHostCall();
      host = backing.Protect(run.range(), HostProtection::kReadOnly);
      break;
    case HostStep::kReadWrite:
      CountHostCall();
      host = backing.Protect(run.range(), HostProtection::kReadWrite);
      if (host.error == 0) break;
      CountHostCall();
      if (backing.Unmap(run.range()).error == 0) {
        for (int i = 0; i < run.size(); ++i) {
          run.set_target(i, Spte::NonPresent());
        }
      }
      CommitTargets(run);
      return host;
  }
  if (host.error == 0) {
    CommitTargets(run);
  } else {
    RestoreRun(run);
  }
  return host;
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
