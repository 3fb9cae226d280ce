// Comparing the tables with what the host maps.

#include <algorithm>
#include <array>

#include "engine/base/errors.h"
#include "engine/mmu/frozen_backoff.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

// What the host should map for a frame of an entry.
HostFrame Granted(Spte spte, PageLevel level) {
  const bool mapped = spte.IsLeaf(level) && spte.IsHostMapped();
  return {.present = mapped, .writable = mapped && spte.IsWritable()};
}

bool SameFrame(HostFrame a, HostFrame b) {
  return a.present == b.present && a.writable == b.writable;
}

}  // namespace

// The entry that decides about a frame: the one that is a leaf or FROZEN, in
// whatever root, else the last one of the valid root.
LastEntry TdpMmu::FindEntryFor(const RootSet& roots, Gfn gfn) {
  LastEntry decisive;
  for (const TdpRoot& root : roots.roots) {
    const LastEntry last = FindLastEntry(root.tree(), gfn);
    if (last.spte.IsFrozen() || last.spte.IsLeaf(last.level)) return last;
    if (!root.role.invalid) decisive = last;
  }
  return decisive;
}

AuditProgress TdpMmu::AuditRange(
    GfnRange range, StopCheck stop,
    absl::FunctionRef<void(const AuditFinding&)> report) {
  range = range.Intersect(span());
  AuditProgress progress{.next_gfn = range.start};
  while (progress.next_gfn < range.end) {
    Gfn gfn = progress.next_gfn;
    PinResult found = backings_.Pin(gfn, PinMode::kUnmap);
    if (!found.pin) {
      progress.next_gfn = backings_.NextBacked(gfn + 1, &gfn)
                              ? std::min(gfn, range.end)
                              : range.end;
      continue;
    }
    const GfnRange piece = FirstEntryOf(
        GfnRange{gfn, range.end}.Intersect(found.pin->range()), PageLevel::k2M);
    progress.status = AuditPiece(*found.pin, piece, report);
    if (!progress.status.ok()) return progress;
    progress.compared_frames += static_cast<int64_t>(piece.size());
    progress.next_gfn = piece.end;
    if (stop()) return progress;
  }
  return progress;
}

absl::Status TdpMmu::AuditPiece(
    Backing& backing, GfnRange piece,
    absl::FunctionRef<void(const AuditFinding&)> report) {
  std::array<HostFrame, kEntriesPerTable> host;
  const absl::Span<HostFrame> frames(host.data(), piece.size());
  if (absl::Status s = backing.Inspect(piece, frames); !s.ok()) return s;
  std::array<bool, kEntriesPerTable> differs{};
  {
    RcuReadGuard rcu(rcu_);
    const RootSet& roots = Roots();
    for (Gfn gfn = piece.start; gfn < piece.end;) {
      const LastEntry last = FindEntryFor(roots, gfn);
      const HostFrame granted = Granted(last.spte, last.level);
      const Gfn end = roots.HasInvalid()
                          ? gfn + 1
                          : std::min(piece.end, AlignDown(gfn, last.level) +
                                                    FramesPerEntry(last.level));
      for (; gfn < end; gfn += 1) {
        const size_t i = gfn - piece.start;
        differs[i] = last.spte.IsFrozen() || !SameFrame(granted, frames[i]);
      }
    }
  }
  for (size_t i = 0; i < piece.size(); ++i) {
    if (!differs[i]) continue;
    if (absl::Status s = AuditAsOwner(backing, piece.start + i, report);
        !s.ok()) {
      return s;
    }
  }
  return absl::OkStatus();
}

// Looks again while nobody can change the entry, so that what differs now is
// no passing state.
absl::Status TdpMmu::AuditAsOwner(
    Backing& backing, Gfn gfn,
    absl::FunctionRef<void(const AuditFinding&)> report) {
  FrozenRun run;
  FrozenBackoff backoff;
  while (run.empty()) {
    {
      // mmu_lock, so that the valid root stays valid until the entry is
      // frozen: an entry that is not present is owned for all roots there.
      MmuReadGuard lock(mmu_lock_);
      RcuReadGuard rcu(rcu_);
      const LastEntry last = FindEntryFor(Roots(), gfn);
      const Spte old = last.spte;
      const bool frozen = !old.IsFrozen() &&
                          run.TryExtend(last.entry, AlignDown(gfn, last.level),
                                        last.level, last.spte, old);
      if (frozen) break;
    }
    backoff.Wait();
  }
  HostFrame host;
  const absl::Status inspected =
      backing.Inspect({gfn, gfn + 1}, absl::MakeSpan(&host, 1));
  const GfnRange range = run.range();
  const WalkedEntry entry = {run.old_spte(0), run.level(), range.start};
  RestoreRun(run);
  // Faults that met the frozen entry rely on its owner.
  WakeAll(range);
  if (!inspected.ok()) return inspected;
  const HostFrame granted = Granted(entry.spte, entry.level);
  if (SameFrame(granted, host)) return absl::OkStatus();
  const bool more = (host.present && !granted.present) ||
                    (host.writable && !granted.writable);
  report({.gfn = gfn, .entry = entry, .host = host, .host_grants_more = more});
  return absl::OkStatus();
}

}  // namespace tdp
