// The page tables of a VM as its users see them.

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

constexpr size_t kMaxInvalidRoots = 8;

}  // namespace

BudgetCheck::BudgetCheck(const WorkBudget& budget)
    : end_(absl::Now() + budget.time), budget_(budget) {}

bool BudgetCheck::operator()() const {
  return (budget_.cancelled && budget_.cancelled()) || absl::Now() >= end_;
}

SpteView ViewOf(const WalkedEntry& entry) {
  SpteView view = {.level = entry.level,
                   .base_gfn = entry.gfn,
                   .raw = entry.spte.raw(),
                   .present = entry.spte.IsPresent(),
                   .leaf = entry.spte.IsLeaf(entry.level),
                   .frozen = entry.spte.IsFrozen()};
  if (view.leaf) {
    view.pfn = entry.spte.pfn();
    view.access = entry.spte.access();
    view.accessed = entry.spte.IsAccessed();
    view.dirty = entry.spte.IsDirty();
    view.host_writable = entry.spte.IsHostWritable();
    view.mmu_writable = entry.spte.IsMmuWritable();
  }
  // A table's address is the daemon's own affair.
  if (view.present && !view.leaf) {
    view.raw &= ~(((uint64_t{1} << 52) - 1) & ~(kPageSize - 1));
  }
  return view;
}

absl::Status VmImpl::CheckRange(GfnRange range) const {
  if (range.empty()) {
    return FieldError("range",
                      absl::StrCat("[", Hex(range.start.value()), ", ",
                                   Hex(range.end.value()), ")"),
                      "a range whose end_gfn is greater than its start_gfn");
  }
  const uint64_t end = mmu_->span().end.value();
  if (range.end.value() > end) {
    return FieldError("range.end_gfn", Hex(range.end.value()),
                      absl::StrCat("at most ", Hex(end), ", which a root of ",
                                   config_.root_level, " levels spans"));
  }
  return absl::OkStatus();
}

absl::Status VmImpl::CheckGfn(absl::string_view field, uint64_t gfn) const {
  const uint64_t end = mmu_->span().end.value();
  if (gfn < end) return absl::OkStatus();
  return FieldError(field, Hex(gfn),
                    absl::StrCat("below ", Hex(end), ", which a root of ",
                                 config_.root_level, " levels spans"));
}

absl::Status VmImpl::CheckGfns(absl::Span<const uint64_t> gfns) const {
  if (static_cast<int64_t>(gfns.size()) > limits::kMaxWalkFrames) {
    return FieldError("gfns", absl::StrCat(gfns.size(), " frames"),
                      absl::StrCat("at most ", limits::kMaxWalkFrames,
                                   " frames; split the list"));
  }
  const uint64_t end = mmu_->span().end.value();
  for (size_t i = 0; i < gfns.size(); ++i) {
    if (gfns[i] < end) continue;
    return CheckGfn(absl::StrCat("gfns[", i, "]"), gfns[i]);
  }
  return absl::OkStatus();
}

absl::Status VmImpl::CheckLevel(absl::string_view field, int level, int min,
                                int max, absl::string_view rule) {
  static constexpr std::array<const char*, 6> kNames = {
      "PAGE_LEVEL_UNSPECIFIED", "PAGE_LEVEL_4K",   "PAGE_LEVEL_2M",
      "PAGE_LEVEL_1G",          "PAGE_LEVEL_512G", "PAGE_LEVEL_256T"};
  if (level >= min && level <= max) return absl::OkStatus();
  const bool known = level >= 0 && level < static_cast<int>(kNames.size());
  return FieldError(
      field,
      known ? absl::StrCat(kNames[static_cast<size_t>(level)], " (", level, ")")
            : absl::StrCat(level),
      rule);
}

absl::StatusOr<RangeProgress> VmImpl::MapRange(GfnRange range, int max_level,
                                               bool write,
                                               const WorkBudget& budget) {
  if (absl::Status s = CheckUsable("map frames"); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  if (absl::Status s = CheckLevel("max_level", max_level, 0, 2,
                                  "PAGE_LEVEL_4K, PAGE_LEVEL_2M or "
                                  "unspecified; larger mappings come from "
                                  "CollapseHugePages");
      !s.ok()) {
    return s;
  }
  const MapOptions options = {
      .max_level = max_level == 1 ? PageLevel::k4K : PageLevel::k2M,
      .write = write};
  const MmuProgress progress =
      mmu_->MapRange(range, options, BudgetCheck(budget));
  ReleaseGranted({range.start, progress.next_gfn});
  // An error after progress is for the next call, which begins there.
  if (!progress.status.ok() && progress.next_gfn == range.start) {
    return progress.status;
  }
  return RangeProgress{progress.next_gfn, progress.changed_frames};
}

absl::StatusOr<RangeProgress> VmImpl::ZapRange(GfnRange range,
                                               const WorkBudget& budget) {
  if (absl::Status s = CheckUsable("zap frames"); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  const MmuProgress progress = mmu_->ZapRange(range, BudgetCheck(budget));
  if (!progress.status.ok() && progress.next_gfn == range.start) {
    return progress.status;
  }
  return RangeProgress{progress.next_gfn, progress.changed_frames};
}

absl::StatusOr<int> VmImpl::ZapAll(bool wait) {
  if (absl::Status s = CheckUsable("zap its roots"); !s.ok()) return s;
  // Roots are exempt from the page-table limit, so their number is bounded
  // here: who invalidates faster than the reaper zaps does a part of its work.
  if (mmu_->invalid_root_count() >= kMaxInvalidRoots) {
    if (absl::Status s = mmu_->ZapInvalidatedRoots(); !s.ok()) return s;
  }
  const absl::StatusOr<int> count = mmu_->InvalidateRoots();
  if (!count.ok()) return count.status();
  if (wait) {
    if (absl::Status s = mmu_->ZapInvalidatedRoots(); !s.ok()) return s;
    environment_.rcu->Barrier();
    ReleaseFailed();
    return *count;
  }
  if (!reap_queued_.exchange(true)) {
    reaper_.Run([this] {
      reap_queued_.store(false);
      // A failure leaves the root in the list; the next ZapAll, or the
      // teardown, takes it up again.
      mmu_->ZapInvalidatedRoots().IgnoreError();
      ReleaseFailed();
    });
  }
  return *count;
}

absl::StatusOr<std::vector<SpteView>> VmImpl::WalkGfn(Gfn gfn) const {
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  if (absl::Status s = CheckGfn("gfn", gfn.value()); !s.ok()) return s;
  std::vector<SpteView> path;
  for (const WalkedEntry& entry : mmu_->WalkGfn(gfn)) {
    path.push_back(ViewOf(entry));
  }
  return path;
}

absl::StatusOr<Gfn> VmImpl::WalkRange(GfnRange range,
                                      const WalkRangeOptions& options,
                                      size_t max_entries,
                                      std::vector<SpteView>& out) const {
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  if (options.min_level > static_cast<PageLevel>(config_.root_level)) {
    return FieldError("min_level",
                      absl::StrCat(static_cast<int>(options.min_level)),
                      absl::StrCat("at most ", config_.root_level,
                                   ", the level of the root"));
  }
  std::vector<WalkedEntry> entries;
  const Gfn next = mmu_->WalkRange(range,
                                   {.min_level = options.min_level,
                                    .leaves_only = options.leaves_only,
                                    .present_only = options.present_only,
                                    .resume_gfn = options.resume_gfn},
                                   max_entries, entries);
  out.reserve(out.size() + entries.size());
  for (const WalkedEntry& entry : entries) out.push_back(ViewOf(entry));
  return next;
}

absl::StatusOr<WalkFramesResult> VmImpl::WalkFrames(
    absl::Span<const uint64_t> gfns) const {
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  if (gfns.empty()) return FieldError("gfns", "", "at least one frame");
  if (absl::Status s = CheckGfns(gfns); !s.ok()) return s;
  WalkFramesResult result;
  result.raw_sptes.resize(gfns.size());
  result.levels.resize(gfns.size());
  mmu_->WalkFrames(gfns, Prefetch::kYes,
                   [&](size_t i, const WalkedEntry& entry) {
                     result.raw_sptes[i] = entry.spte.raw();
                     result.levels[i] = static_cast<char>(entry.level);
                   });
  return result;
}

absl::Status VmImpl::ViewFrames(absl::Span<const uint64_t> gfns,
                                std::vector<SpteView>& out) const {
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  if (absl::Status s = CheckGfns(gfns); !s.ok()) return s;
  out.resize(gfns.size());
  mmu_->WalkFrames(
      gfns, Prefetch::kYes,
      [&](size_t i, const WalkedEntry& entry) { out[i] = ViewOf(entry); });
  return absl::OkStatus();
}

absl::StatusOr<AuditResult> VmImpl::AuditRange(GfnRange range,
                                               int max_divergences,
                                               const WorkBudget& budget) {
  if (absl::Status s = CheckExists(); !s.ok()) return s;
  if (absl::Status s = CheckRange(range); !s.ok()) return s;
  if (max_divergences < 0 || max_divergences > limits::kMaxDivergences) {
    return FieldError("max_divergences", absl::StrCat(max_divergences),
                      absl::StrCat("between 0 and ", limits::kMaxDivergences));
  }
  const size_t max_kept =
      max_divergences == 0 ? 100 : static_cast<size_t>(max_divergences);
  AuditResult result;
  const AuditProgress progress = mmu_->AuditRange(
      range, BudgetCheck(budget), [&](const AuditFinding& finding) {
        ++(finding.host_grants_more ? result.divergent_frame_count
                                    : result.host_stricter_frame_count);
        if (result.divergences.size() < max_kept) {
          result.divergences.push_back(
              {.gfn = finding.gfn,
               .engine = ViewOf(finding.entry),
               .host_present = finding.host.present,
               .host_writable = finding.host.writable});
        }
      });
  if (!progress.status.ok() && progress.next_gfn == range.start) {
    return progress.status;
  }
  result.next_gfn = progress.next_gfn;
  result.compared_frame_count = progress.compared_frames;
  return result;
}

VmStats VmImpl::Stats() const {
  VmStats stats;
  stats.sample_time = absl::Now();
  stats.leaf_4k_count = mmu_->Read(MmuCounter::kLeaf4K);
  stats.leaf_2m_count = mmu_->Read(MmuCounter::kLeaf2M);
  stats.leaf_1g_count = mmu_->Read(MmuCounter::kLeaf1G);
  stats.page_table_bytes = mmu_->page_table_bytes();
  stats.deferred_free_count = mmu_->retired_table_count();
  stats.fault_fixed_count = mmu_->Read(MmuCounter::kFaultFixed);
  stats.fault_spurious_count = mmu_->Read(MmuCounter::kFaultSpurious);
  stats.fault_retry_count = mmu_->Read(MmuCounter::kFaultRetry);
  stats.host_call_count = mmu_->Read(MmuCounter::kHostCalls);
  stats.yield_count = mmu_->Read(MmuCounter::kYields);
  const MmuLock::WriterHolds holds = mmu_->writer_holds();
  stats.exclusive_hold_count = holds.count;
  stats.exclusive_hold_nanoseconds = holds.nanoseconds;
  stats.fault_write_protected_count =
      mmu_->Read(MmuCounter::kFaultWriteProtected);
  stats.fault_unbacked_count = fault_stats_.Count(FaultKind::kUnbacked);
  stats.fault_source_error_count = fault_stats_.Count(FaultKind::kSourceError);
  stats.waiting_access_count = vcpus_->waiting_count();
  stats.fault_outcomes = fault_stats_.Read();
  return stats;
}

}  // namespace tdp
