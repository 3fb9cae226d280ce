// The working set of a VM: scanning it, and aging for clients beside that.
//
// Both age frames, piece after piece, under the mutex of the memslot's
// IdleAges, and with a pin, so that frames keep their indexes: to each other,
// one of them has aged a piece and left word, or has not begun it. A memslot of
// which there is no pin to be had has no entries.

#include <algorithm>
#include <cassert>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/memory/idle_ages.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

using Reader = IdleAges::Reader;

// Frames aged under one hold of the mutex, at multiples of as many: a few
// milliseconds.
constexpr uint64_t kPieceFrames = 32 * FramesPerEntry(PageLevel::k2M);

Gfn PieceEnd(Gfn gfn) {
  return gfn - gfn.value() % kPieceFrames + kPieceFrames;
}

BackingPin PinMemslot(Memslot& memslot) {
  if (!memslot.TryPin(PinMode::kUnmap)) return BackingPin();
  return BackingPin(&memslot, /*for_map=*/false);
}

// Calls visit(frames, accessed) for each leaf that overlaps `range`, with all
// frames of it; for a 1G leaf, with its 2M parts that do.
template <typename Visit>
void VisitMapped(const TdpMmu& mmu, GfnRange range, Visit visit) {
  constexpr size_t kEntries = 4096;
  constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);
  std::vector<WalkedEntry> entries;
  for (Gfn next = range.start; next < range.end;) {
    entries.clear();
    const GfnRange rest = {next, range.end};
    next = mmu.WalkRange(
        rest, {.leaves_only = true, .present_only = true, .resume_gfn = {}},
        kEntries, entries);
    for (const WalkedEntry& entry : entries) {
      const bool accessed = entry.spte.IsAccessed();
      const Gfn end = entry.gfn + FramesPerEntry(entry.level);
      if (entry.level <= PageLevel::k2M) {
        visit(GfnRange{entry.gfn, end}, accessed);
        continue;
      }
      Gfn block = std::max(entry.gfn, AlignDown(rest.start, PageLevel::k2M));
      for (; block < std::min(end, rest.end); block += kBlock) {
        visit(GfnRange{block, block + kBlock}, accessed);
      }
    }
  }
}

}  // namespace

MmuProgress VmImpl::AgeFrames(GfnRange range, bool test_only, StopCheck stop,
                              absl::FunctionRef<void(GfnRange)> on_young) {
  // Leaves reach beyond the range, and tables may become huge leaves between
  // the steps of a walk.
  Gfn reported = range.start;
  const auto report = [&](GfnRange leaves) {
    const GfnRange frames = {std::max(leaves.start, reported),
                             std::min(leaves.end, range.end)};
    if (frames.empty()) return;
    reported = frames.end;
    on_young(frames);
  };
  MmuProgress progress{.next_gfn = range.start};
  bool stopped = false;
  wordless_agers_.fetch_add(1);
  if (!was_scanned_.load()) {
    progress = mmu_->AgeRange(
        range, test_only,
        [&] {
          stopped = stop();
          return stopped || was_scanned_.load();
        },
        report);
  }
  if (wordless_agers_.fetch_sub(1) == 1) wordless_agers_.notify_all();
  while (progress.status.ok() && !stopped && progress.next_gfn < range.end) {
    const MmuProgress piece =
        AgePiece({progress.next_gfn, range.end}, test_only, stop, report);
    assert(!piece.status.ok() || piece.next_gfn > progress.next_gfn);
    progress.next_gfn = piece.next_gfn;
    progress.status = piece.status;
    stopped = stop();
  }
  return progress;
}

MmuProgress VmImpl::AgePiece(GfnRange range, bool test_only, StopCheck stop,
                             absl::FunctionRef<void(GfnRange)> on_young) {
  Gfn gfn;
  GfnRange slot;
  std::shared_ptr<Memslot> memslot;
  BackingPin pin;
  // A memslot that was found may move before it is pinned, and while there is
  // no pin to be had.
  do {
    if (!memslots_.NextBacked(range.start, &gfn) || gfn >= range.end) {
      return {.next_gfn = range.end};
    }
    pin.Reset();
    slot = {};
    memslot = memslots_.Find(gfn);
    if (memslot == nullptr) continue;
    pin = PinMemslot(*memslot);
    slot = memslot->range();
  } while (!slot.Contains(gfn));
  if (!pin) return {.next_gfn = std::min(slot.end, range.end)};
  const GfnRange piece = {gfn, std::min({PieceEnd(gfn), slot.end, range.end})};

  IdleAges& ages = memslot->idle_ages();
  MutexLock lock(ages.mutex());
  if (!ages.has_words()) {
    return mmu_->AgeRange(piece, test_only, stop, on_young);
  }
  if (test_only) {
    VisitMapped(*mmu_, piece, [&](GfnRange frames, bool accessed) {
      ages.mutex().AssertHeld();
      if (accessed || ages.HasWord(Reader::kClient, frames.start - slot.start,
                                   frames.end - slot.start)) {
        on_young(frames);
      }
    });
    return {.next_gfn = piece.end};
  }
  const MmuProgress progress =
      mmu_->AgeRange(piece, /*test_only=*/false, stop, [&](GfnRange young) {
        ages.mutex().AssertHeld();
        ages.LeaveWord(young.start - slot.start, young.end - slot.start);
      });
  const GfnRange aged = {piece.start, progress.next_gfn};
  VisitMapped(*mmu_, aged, [&](GfnRange frames, bool) {
    ages.mutex().AssertHeld();
    // A leaf that has become huge since it was aged in part: the next call
    // takes the rest.
    if (aged.end < piece.end) frames.end = std::min(frames.end, aged.end);
    const uint64_t first = frames.start - slot.start;
    const uint64_t end = frames.end - slot.start;
    if (!ages.HasWord(Reader::kClient, first, end)) return;
    ages.TakeWord(Reader::kClient, first, end);
    on_young(frames);
  });
  return progress;
}

absl::StatusOr<WorkingSet> VmImpl::ScanWorkingSet(absl::Duration start,
                                                  StopCheck stop) {
  was_scanned_.store(true);
  while (const int agers = wordless_agers_.load()) wordless_agers_.wait(agers);
  // By memslot, not by frame: one that moves is counted once. Memslots that are
  // deleted meanwhile do not wait for the scan to end.
  std::vector<std::weak_ptr<Memslot>> memslots;
  for (const auto& memslot : memslots_.Snapshot()) memslots.push_back(memslot);
  IdleHistogram histogram;
  for (const std::weak_ptr<Memslot>& weak : memslots) {
    uint64_t index = 0;
    while (const std::shared_ptr<Memslot> memslot = weak.lock()) {
      if (index >= memslot->range().size()) break;
      if (absl::Status s = memslot->idle_ages().Keep(); !s.ok()) return s;
      index = ScanPiece(*memslot, index, start, stop, histogram);
      if (stop()) return absl::CancelledError();
    }
  }
  return WorkingSet{.scan_time = absl::Now(), .buckets = histogram.buckets()};
}

uint64_t VmImpl::ScanPiece(Memslot& memslot, uint64_t index,
                           absl::Duration start, StopCheck stop,
                           IdleHistogram& histogram) {
  const BackingPin pin = PinMemslot(memslot);
  if (!pin) return index + kPieceFrames;
  const GfnRange slot = memslot.range();
  const Gfn first = slot.start + index;
  const GfnRange piece = {first, std::min(PieceEnd(first), slot.end)};
  IdleAges& ages = memslot.idle_ages();
  MutexLock lock(ages.mutex());
  // What fails stays accessed, and counts as used.
  (void)mmu_->AgeRange(piece, /*test_only=*/false, stop, [&](GfnRange young) {
    ages.mutex().AssertHeld();
    ages.LeaveWord(young.start - slot.start, young.end - slot.start);
  });
  // Tables may become huge leaves between the steps of the walk.
  Gfn counted = piece.start;
  VisitMapped(*mmu_, piece, [&](GfnRange leaf, bool accessed) {
    ages.mutex().AssertHeld();
    const GfnRange frames = {std::max(leaf.start, counted), leaf.end};
    if (frames.empty()) return;
    counted = frames.end;
    const uint64_t begin = frames.start - slot.start;
    const uint64_t end = frames.end - slot.start;
    absl::Duration age;
    if (accessed || ages.HasWord(Reader::kScanner, begin, end)) {
      ages.TakeWord(Reader::kScanner, begin, end);
      ages.SetLastUse(begin, end, start);
    } else if (const auto known = ages.IdleAge(begin, end, start);
               known.has_value()) {
      age = std::max(*known, kMinScanInterval);
    } else {
      age = kMinScanInterval;
      ages.SetLastUse(begin, end, start - age);
    }
    histogram.Add(age, static_cast<int64_t>(frames.size()));
  });
  return index + piece.size();
}

void VmImpl::DropIdleAges() {
  for (const std::shared_ptr<Memslot>& memslot : memslots_.Snapshot()) {
    memslot->idle_ages().Drop();
  }
}

void VmImpl::ReleaseWorkingSetLater() {
  if (release_queued_.exchange(true, std::memory_order_acq_rel)) return;
  timers_.RunAt(absl::Now() + WorkingSetScanner::kKept, [this] {
    release_queued_.store(false, std::memory_order_release);
    if (!working_set_.ReleaseIfUnused()) ReleaseWorkingSetLater();
  });
}

absl::StatusOr<WorkingSet> VmImpl::EstimateWorkingSet(
    const WorkBudget& budget) {
  if (absl::Status s = CheckUsable("be scanned"); !s.ok()) return s;
  const absl::StatusOr<WorkingSet> answer =
      working_set_.Estimate(budget.cancelled);
  ReleaseWorkingSetLater();
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  return answer;
}

absl::StatusOr<int64_t> VmImpl::AddWorkingSetWatcher(
    absl::Duration interval, std::function<void()> wake) {
  if (interval < kMinScanInterval || interval > kMaxScanInterval) {
    return FieldError(
        "interval", absl::FormatDuration(interval),
        absl::StrCat("between ", absl::FormatDuration(kMinScanInterval),
                     " and ", absl::FormatDuration(kMaxScanInterval)));
  }
  if (absl::Status s = CheckUsable("be scanned"); !s.ok()) return s;
  return working_set_.AddWatcher(interval, std::move(wake));
}

}  // namespace tdp
