#include <utility>

#include "server/testing/fake_vm.h"

namespace tdp::server {

absl::StatusOr<FakeVm::VerbAnswer> FakeVm::RunVerb(const VerbCall& call) {
  VerbHook hook;
  {
    absl::MutexLock lock(&mutex_);
    hook = verb_hook_;
  }
  if (hook) return hook(call);
  return VerbAnswer{.next_gfn = call.range.end};
}

absl::StatusOr<RangeProgress> FakeVm::RunRangeVerb(const VerbCall& call) {
  const absl::Status checked = CheckRange(call.range);
  if (!checked.ok()) return checked;
  const absl::StatusOr<VerbAnswer> answer = RunVerb(call);
  if (!answer.ok()) return answer.status();
  return RangeProgress{answer->next_gfn, answer->changed};
}

absl::StatusOr<RangeProgress> FakeVm::ProtectRange(GfnRange range,
                                                   Access access,
                                                   const WorkBudget& budget) {
  return RunRangeVerb({.verb = "ProtectRange",
                       .range = range,
                       .access = access,
                       .budget = budget});
}

absl::StatusOr<RangeProgress> FakeVm::WriteProtectRange(
    GfnRange range, int min_level, const WorkBudget& budget) {
  return RunRangeVerb({.verb = "WriteProtectRange",
                       .range = range,
                       .level = min_level,
                       .budget = budget});
}

absl::StatusOr<RangeProgress> FakeVm::SplitHugePages(GfnRange range,
                                                     int target_level,
                                                     const WorkBudget& budget) {
  return RunRangeVerb({.verb = "SplitHugePages",
                       .range = range,
                       .level = target_level,
                       .budget = budget});
}

absl::StatusOr<RangeProgress> FakeVm::CollapseHugePages(
    GfnRange range, int max_level, const WorkBudget& budget) {
  return RunRangeVerb({.verb = "CollapseHugePages",
                       .range = range,
                       .level = max_level,
                       .budget = budget});
}

absl::StatusOr<AgeResult> FakeVm::AgeRange(GfnRange range,
                                           const AgeOptions& options,
                                           const WorkBudget& budget) {
  const absl::Status checked = CheckRange(range);
  if (!checked.ok()) return checked;
  const absl::StatusOr<VerbAnswer> answer = RunVerb(
      {.verb = "AgeRange", .range = range, .age = options, .budget = budget});
  if (!answer.ok()) return answer.status();
  AgeResult result;
  result.next_gfn = answer->next_gfn;
  result.young_frame_count = answer->changed;
  if (options.bitmap) result.young = answer->young;
  return result;
}

absl::StatusOr<BatchResult> FakeVm::ApplyBatch(
    absl::Span<const BatchOperation> operations) {
  const absl::StatusOr<VerbAnswer> answer =
      RunVerb({.verb = "ApplyBatch",
               .operations = {operations.begin(), operations.end()}});
  if (!answer.ok()) return answer.status();
  return BatchResult{answer->changed, answer->hold_duration};
}

void FakeVm::SetVerbHookForTest(VerbHook hook) {
  absl::MutexLock lock(&mutex_);
  verb_hook_ = std::move(hook);
}

}  // namespace tdp::server
