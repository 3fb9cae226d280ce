// Taking access away: for good, or until the next write.

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "engine/mmu/host_pages.h"
#include "engine/mmu/leaf_changes.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

// Frames whose limit is set at once, before their leaves are changed.
constexpr uint64_t kLimitPieceFrames = 16 * FramesPerEntry(PageLevel::k2M);

// Makes leaves as the limits say, which do not change meanwhile.
class LimitVerb {
 public:
  static constexpr bool kLockless = false;
  static constexpr bool kSkipsFrozen = false;
  static constexpr bool kSweeps = false;

  explicit LimitVerb(const AccessLimits& limits) : limits_(limits) {}

  LeafChange Plan(Spte old, Gfn gfn, PageLevel level) {
    const Spte target = old.WithLimit(RunAt(gfn).access);
    if (target == old && !MustSplit(gfn, level)) return LeafChange::None();
    HostStep step = HostStep::kNone;
    if (old.IsHostMapped() && !target.IsReadable()) {
      step = HostStep::kUnmap;
    } else if (old.IsHostMapped() && old.IsWritable() && !target.IsWritable()) {
      step = HostStep::kReadOnly;
    }
    return {target, step};
  }
  Gfn PlanEnd(Gfn gfn, PageLevel) { return RunAt(gfn).end; }
  bool MustSplit(Gfn gfn, PageLevel level) {
    return RunAt(gfn).end < gfn + FramesPerEntry(level);
  }
  void OnSplit(GfnRange) {}
  void OnChanged(GfnRange) {}

 private:
  // The same run holds for many frames.
  const AccessLimits::Run& RunAt(Gfn gfn) {
    if (gfn < run_start_ || gfn >= run_.end) {
      run_start_ = gfn;
      run_ = limits_.At(gfn);
    }
    return run_;
  }

  const AccessLimits& limits_;
  Gfn run_start_;
  AccessLimits::Run run_;  // from run_start_ on
};

class WriteProtectVerb {
 public:
  static constexpr bool kLockless = false;
  static constexpr bool kSkipsFrozen = false;
  static constexpr bool kSweeps = true;

  explicit WriteProtectVerb(PageLevel min_level) : min_level_(min_level) {}

  LeafChange Plan(Spte old, Gfn gfn, PageLevel level) {
    const bool chosen = level >= min_level_ || split_.Contains(gfn);
    if (!chosen || !old.IsWritable()) return LeafChange::None();
    return {old.WithoutWrite(),
            old.IsHostMapped() ? HostStep::kReadOnly : HostStep::kNone};
  }
  Gfn PlanEnd(Gfn, PageLevel level) {
    return level >= min_level_ ? kGfnEnd : split_.end;
  }
  bool MustSplit(Gfn, PageLevel) { return false; }
  void OnSplit(GfnRange leaf) { split_ = leaf; }
  void OnChanged(GfnRange) {}

 private:
  const PageLevel min_level_;
  GfnRange split_;  // its parts count as the leaf that they were
};

// Write-protects the leaves that hold one of some frames.
class WriteProtectFramesVerb {
 public:
  static constexpr bool kLockless = false;
  static constexpr bool kSkipsFrozen = false;
  static constexpr bool kSweeps = true;

  WriteProtectFramesVerb(Gfn first, absl::Span<const uint64_t> bits)
      : first_(first), bits_(bits) {}

  LeafChange Plan(Spte old, Gfn gfn, PageLevel level) {
    if (!old.IsWritable() || !HasAny({gfn, gfn + FramesPerEntry(level)})) {
      return LeafChange::None();
    }
    return {old.WithoutWrite(),
            old.IsHostMapped() ? HostStep::kReadOnly : HostStep::kNone};
  }
  Gfn PlanEnd(Gfn gfn, PageLevel) { return gfn; }
  bool MustSplit(Gfn, PageLevel) { return false; }
  void OnSplit(GfnRange) {}
  void OnChanged(GfnRange) {}

 private:
  static constexpr uint64_t kWordBits = 64;

  bool HasAny(GfnRange frames) const {
    const GfnRange range =
        frames.Intersect({first_, first_ + bits_.size() * kWordBits});
    for (Gfn gfn = range.start; gfn < range.end;) {
      const uint64_t index = gfn - first_;
      const uint64_t low = index % kWordBits;
      const uint64_t count = std::min(range.end - gfn, kWordBits - low);
      const uint64_t word = bits_[index / kWordBits] >> low;
      if (count == kWordBits ? word != 0
                             : (word & ((uint64_t{1} << count) - 1)) != 0) {
        return true;
      }
      gfn += count;
    }
    return false;
  }

  const Gfn first_;
  const absl::Span<const uint64_t> bits_;
};

// Gives back at once what the next write would be granted.
struct GrantWritesVerb {
  static constexpr bool kLockless = false;
  static constexpr bool kSkipsFrozen = false;
  static constexpr bool kSweeps = false;

  LeafChange Plan(Spte old, Gfn, PageLevel) {
    if (old.IsWritable() || !old.IsMmuWritable() || !old.IsHostMapped()) {
      return LeafChange::None();
    }
    return {old.WithWrite(), HostStep::kReadWrite};
  }
  Gfn PlanEnd(Gfn, PageLevel) { return kGfnEnd; }
  bool MustSplit(Gfn, PageLevel) { return false; }
  void OnSplit(GfnRange) {}
  void OnChanged(GfnRange) {}
};

}  // namespace

MmuProgress TdpMmu::WriteProtectFrames(Gfn first,
                                       absl::Span<const uint64_t> bits,
                                       StopCheck stop) {
  WriteProtectFramesVerb verb(first, bits);
  return ChangeLeavesInAllRoots({first, first + bits.size() * 64}, verb, stop);
}

MmuProgress TdpMmu::GrantWrites(GfnRange range, StopCheck stop) {
  GrantWritesVerb verb;
  return ChangeLeavesInAllRoots(range, verb, stop);
}

MmuProgress TdpMmu::ProtectRange(GfnRange range, Access limit, StopCheck stop) {
  MmuProgress progress{.next_gfn = range.start};
  progress.status = CheckBacked(range);
  if (progress.status.ok()) progress.status = CheckHostPages(backings_, range);
  while (progress.status.ok() && progress.next_gfn < range.end) {
    // The memslot stays while its limits are set: they go with it.
    const PinResult found = backings_.Pin(progress.next_gfn, PinMode::kMap);
    if (!found.pin) {
      progress.status = found.changing ? ChangingError(progress.next_gfn)
                                       : GfnNotBackedError(progress.next_gfn);
      return progress;
    }
    if (limit.read && !limit.write && !found.pin->write_protects()) {
      // It was not here when the caller made sure that writes can be held back.
      progress.status = ChangingError(progress.next_gfn);
      return progress;
    }
    const GfnRange piece =
        GfnRange{progress.next_gfn,
                 std::min(range.end, progress.next_gfn + kLimitPieceFrames)}
            .Intersect(found.pin->range());
    // Again: it may be another memslot by now.
    progress.status =
        CheckHostPages(*found.pin, {progress.next_gfn, range.end});
    if (!progress.status.ok()) return progress;
    // Until the leaves are as the limit says: of two limits for a frame, the
    // leaf follows the one that stands.
    MutexLock lock(limits_.change_mutex());
    const std::vector<AccessLimit> before = limits_.In(piece);
    const AccessLimit change = {piece, limit};
    absl::StatusOr<std::unique_ptr<AccessLimits::List>> list =
        limits_.Prepare(absl::MakeConstSpan(&change, 1));
    progress.status = list.status();
    if (!list.ok()) return progress;
    limits_.Publish(*std::move(list));
    const MmuProgress one = ApplyLimits(piece);
    progress.changed_frames += one.changed_frames;
    progress.changed_entries += one.changed_entries;
    progress.next_gfn = one.next_gfn;
    progress.status = one.status;
    if (!one.status.ok()) {
      // What was not reached gets its old limit back, and so do the entries
      // that were made under the new one.
      const GfnRange rest = {one.next_gfn, piece.end};
      std::vector<AccessLimit> back = {{rest, AccessLimits::kUnlimited}};
      for (const AccessLimit& old : before) {
        back.push_back({old.range.Intersect(rest), old.access});
      }
      limits_.Restore(back);
      FollowWithdrawnLimit({rest, limit});
    }
    if (stop()) break;
  }
  return progress;
}

// Nobody installs an entry under an older limit from here on: the sequence is
// advanced before entries are looked for.
MmuProgress TdpMmu::ApplyLimits(GfnRange range) {
  LimitVerb verb(limits_);
  return ChangeLeavesInAllRoots(range, verb, [] { return false; });
}

void TdpMmu::FollowWithdrawnLimit(const AccessLimit& withdrawn) {
  const MmuProgress progress = ApplyLimits(withdrawn.range);
  if (progress.status.ok()) return;
  const AccessLimit kept = {{progress.next_gfn, withdrawn.range.end},
                            withdrawn.access};
  limits_.Restore(absl::MakeConstSpan(&kept, 1));
}

Access TdpMmu::LimitOf(Gfn gfn) const {
  RcuReadGuard rcu(rcu_);
  return limits_.At(gfn).access;
}

MmuProgress TdpMmu::WriteProtectRange(GfnRange range, PageLevel min_level,
                                      StopCheck stop) {
  if (absl::Status s = CheckHostPages(backings_, range); !s.ok()) {
    return {.next_gfn = range.start, .status = s};
  }
  WriteProtectVerb verb(min_level);
  return ChangeLeavesInAllRoots(range, verb, stop);
}

}  // namespace tdp
