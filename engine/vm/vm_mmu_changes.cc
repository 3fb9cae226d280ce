// Changing what the page tables of a VM grant, and finding out what is used.

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/mmu/host_pages.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

// An error after progress is for the next call, which begins there.
absl::StatusOr<RangeProgress> AnswerOf(const MmuProgress& progress, Gfn start,
                                       int64_t changed) {
  if (!progress.status.ok() && progress.next_gfn == start) {
    return progress.status;
  }
  return RangeProgress{progress.next_gfn, changed};
}

absl::Status CheckAccess(absl::string_view field, Access access) {
  if (!access.write || access.read) return absl::OkStatus();
  return FieldError(field, "write without read",
                    "read and write, read alone, or neither");
}

void SetBits(FrameBitmap& bitmap, GfnRange range) {
  const uint64_t first = range.start - bitmap.first_gfn;
  for (uint64_t i = first; i < first + range.size(); ++i) {
    bitmap.bits[i / 8] = static_cast<char>(bitmap.bits[i / 8] | 1 << (i % 8));
  }
}

}  // namespace

absl::Status VmImpl::CheckWriteProtects(GfnRange range) const {
  MutexLock lock(state_mutex_);
  for (const auto& [id, record] : records_) {
    if (record.memslot->write_protects() ||
        !record.memslot->range().Overlaps(range)) {
      continue;
    }
    const std::string memslot = absl::StrCat(name(), "/memslots/", id);
    return MakeError(
        ErrorReason::kOperationConflict,
        absl::StrCat(memslot,
                     " cannot hold a write back: with HYPERVISOR_SOFTWARE and "
                     "DIRTY_MODE_HARVEST the kernel notes writes and lets them "
                     "happen; leave its frames out or create it with "
                     "DIRTY_MODE_WRITE_PROTECT"),
        {{"memslot", memslot}});
  }
  return absl::OkStatus();
}

absl::StatusOr<RangeProgress> VmImpl::ProtectRange(GfnRange range,
                                                   Access access,
                                                   const WorkBudget& budget) {
  if (absl::Status s = CheckUsable("limit accesses"); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  if (absl::Status s = CheckAccess("access", access); !s.ok()) return s;
  if (access.read && !access.write) {
    if (absl::Status s = CheckWriteProtects(range); !s.ok()) return s;
  }
  const MmuProgress progress =
      mmu_->ProtectRange(range, access, BudgetCheck(budget));
  // All of it: on a part that was not reached the new limit held for a moment,
  // and is taken back.
  ReleaseGranted(range);
  return AnswerOf(progress, range.start, progress.changed_entries);
}

absl::StatusOr<RangeProgress> VmImpl::WriteProtectRange(
    GfnRange range, int min_level, const WorkBudget& budget) {
  if (absl::Status s = CheckUsable("write-protect frames"); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  if (absl::Status s = CheckLevel(
          "min_level", min_level, 0, 3,
          "PAGE_LEVEL_4K, PAGE_LEVEL_2M, PAGE_LEVEL_1G or unspecified");
      !s.ok()) {
    return s;
  }
  if (absl::Status s = CheckWriteProtects(range); !s.ok()) return s;
  const PageLevel level = static_cast<PageLevel>(std::max(min_level, 1));
  const MmuProgress progress =
      mmu_->WriteProtectRange(range, level, BudgetCheck(budget));
  return AnswerOf(progress, range.start, progress.changed_entries);
}

absl::StatusOr<RangeProgress> VmImpl::SplitHugePages(GfnRange range,
                                                     int target_level,
                                                     const WorkBudget& budget) {
  if (absl::Status s = CheckUsable("split mappings"); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  if (absl::Status s = CheckLevel("target_level", target_level, 1, 2,
                                  "PAGE_LEVEL_4K or PAGE_LEVEL_2M");
      !s.ok()) {
    return s;
  }
  const MmuProgress progress = mmu_->SplitHugePages(
      range, static_cast<PageLevel>(target_level), BudgetCheck(budget));
  return AnswerOf(progress, range.start, progress.changed_entries);
}

absl::StatusOr<RangeProgress> VmImpl::CollapseHugePages(
    GfnRange range, int max_level, const WorkBudget& budget) {
  if (absl::Status s = CheckUsable("collapse mappings"); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  if (absl::Status s =
          CheckLevel("max_level", max_level == 0 ? 2 : max_level, 2, 3,
                     "PAGE_LEVEL_2M (the default) or PAGE_LEVEL_1G");
      !s.ok()) {
    return s;
  }
  // A 1G leaf is split before anything but a walk is done to it: the engine
  // builds one only when told to.
  const MmuProgress progress = mmu_->CollapseHugePages(
      range, max_level == 3 ? PageLevel::k1G : PageLevel::k2M,
      BudgetCheck(budget));
  return AnswerOf(progress, range.start, progress.changed_entries);
}

absl::StatusOr<AgeResult> VmImpl::AgeRange(GfnRange range,
                                           const AgeOptions& options,
                                           const WorkBudget& budget) {
  if (absl::Status s = CheckUsable("be aged"); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  if (absl::Status s = CheckHostPages(memslots_, range); !s.ok()) return s;
  AgeResult result;
  if (options.bitmap) {
    if (range.size() > static_cast<uint64_t>(limits::kMaxAgeBitmapFrames)) {
      return FieldError("range", absl::StrCat(range.size(), " frames"),
                        absl::StrCat("at most ", limits::kMaxAgeBitmapFrames,
                                     " frames with a bitmap; split the range"));
    }
    const Gfn first(range.start.value() & ~uint64_t{63});
    result.young =
        FrameBitmap{.first_gfn = first,
                    .frame_count = static_cast<int64_t>(range.end - first),
                    .bits = std::string((range.end - first + 7) / 8, '\0')};
  }
  const MmuProgress progress = AgeFrames(
      range, options.test_only, BudgetCheck(budget), [&](GfnRange young) {
        result.young_frame_count += static_cast<int64_t>(young.size());
        if (result.young.has_value()) SetBits(*result.young, young);
      });
  if (!progress.status.ok() && progress.next_gfn == range.start) {
    return progress.status;
  }
  result.next_gfn = progress.next_gfn;
  if (result.young.has_value()) {
    const uint64_t frames = progress.next_gfn - result.young->first_gfn;
    result.young->frame_count = static_cast<int64_t>(frames);
    result.young->bits.resize((frames + 7) / 8);
  }
  return result;
}

absl::StatusOr<BatchResult> VmImpl::ApplyBatch(
    absl::Span<const BatchOperation> operations) {
  if (absl::Status s = CheckUsable("apply a batch"); !s.ok()) return s;
  std::vector<MmuOperation> batch;
  if (absl::Status s = CheckBatch(operations, batch); !s.ok()) return s;
  const BatchOutcome outcome = mmu_->ApplyBatch(batch);
  for (const MmuOperation& operation : batch) ReleaseGranted(operation.range);
  if (!outcome.status.ok()) return outcome.status;
  return BatchResult{outcome.changed_entries, outcome.hold_duration};
}

absl::Status VmImpl::CheckBatch(absl::Span<const BatchOperation> operations,
                                std::vector<MmuOperation>& batch) const {
  if (operations.empty() ||
      static_cast<int64_t>(operations.size()) > limits::kMaxBatchOperations) {
    return FieldError(
        "operations", absl::StrCat(operations.size(), " operations"),
        absl::StrCat("1 to ", limits::kMaxBatchOperations, " operations"));
  }
  uint64_t frames = 0;
  for (size_t i = 0; i < operations.size(); ++i) {
    const BatchOperation& operation = operations[i];
    const std::string field = absl::StrCat("operations[", i, "]");
    if (operation.range.empty() || operation.range.end > mmu_->span().end) {
      return FieldError(
          absl::StrCat(field, ".range"),
          absl::StrCat("[", Hex(operation.range.start.value()), ", ",
                       Hex(operation.range.end.value()), ")"),
          absl::StrCat("a range that is not empty and ends at ",
                       Hex(mmu_->span().end.value()), " at most"));
    }
    frames += operation.range.size();  // far from 2^64: 256 spans at most
    MmuOperation step = {.range = operation.range};
    switch (operation.kind) {
      case BatchOperation::Kind::kZap:
        break;
      case BatchOperation::Kind::kProtect:
        step.kind = MmuOperation::Kind::kProtect;
        step.access = operation.access;
        if (absl::Status s =
                CheckAccess(absl::StrCat(field, ".access"), step.access);
            !s.ok()) {
          return s;
        }
        break;
      case BatchOperation::Kind::kWriteProtect:
        step.kind = MmuOperation::Kind::kWriteProtect;
        if (absl::Status s = CheckLevel(absl::StrCat(field, ".min_level"),
                                        operation.level, 0, 3,
                                        "PAGE_LEVEL_4K, PAGE_LEVEL_2M, "
                                        "PAGE_LEVEL_1G or unspecified");
            !s.ok()) {
          return s;
        }
        step.min_level = static_cast<PageLevel>(std::max(operation.level, 1));
        break;
      case BatchOperation::Kind::kMap:
        step.kind = MmuOperation::Kind::kMap;
        step.write = operation.write;
        if (absl::Status s = CheckLevel(absl::StrCat(field, ".max_level"),
                                        operation.level, 0, 2,
                                        "PAGE_LEVEL_4K, PAGE_LEVEL_2M or "
                                        "unspecified");
            !s.ok()) {
          return s;
        }
        // A batch installs mappings as small as they can be.
        step.max_level = operation.level == 1 ? PageLevel::k4K : PageLevel::k2M;
        break;
    }
    if (step.HoldsWritesBack()) {
      if (absl::Status s = CheckWriteProtects(step.range); !s.ok()) return s;
    }
    batch.push_back(step);
  }
  if (frames > static_cast<uint64_t>(limits::kMaxBatchFrames)) {
    return FieldError("operations", absl::StrCat(frames, " frames in all"),
                      absl::StrCat("at most ", limits::kMaxBatchFrames,
                                   " frames in all; send several batches"));
  }
  return CheckDisjoint(batch);
}

absl::Status VmImpl::CheckDisjoint(const std::vector<MmuOperation>& batch) {
  std::vector<size_t> order(batch.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return batch[a].range.start < batch[b].range.start;
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const GfnRange before = batch[order[i - 1]].range;
    const GfnRange range = batch[order[i]].range;
    if (!before.Overlaps(range)) continue;
    return FieldError(
        absl::StrCat("operations[", order[i], "].range"),
        absl::StrCat("[", Hex(range.start.value()), ", ",
                     Hex(range.end.value()), ")"),
        absl::StrCat("a range apart from that of operations[", order[i - 1],
                     "], [", Hex(before.start.value()), ", ",
                     Hex(before.end.value()), ")"));
  }
  return absl::OkStatus();
}

}  // namespace tdp
