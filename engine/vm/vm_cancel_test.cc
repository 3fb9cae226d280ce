// How far a ranged call goes on when nobody wants its answer any more: counted
// in frames, so that no slow machine matters.

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/vm/vm_test_util.h"

namespace tdp {
namespace {

constexpr uint64_t kFrames = 1 << 14;  // 64 MiB: 32 tables
// What one step covers at most: a table.
constexpr uint64_t kStepFrames = 512;

using Verb = std::function<absl::StatusOr<Gfn>(Vm&, GfnRange, WorkBudget)>;

template <typename Result>
absl::StatusOr<Gfn> NextOf(const absl::StatusOr<Result>& result) {
  if (!result.ok()) return result.status();
  return result->next_gfn;
}

std::vector<std::pair<std::string, Verb>> Verbs() {
  return {
      {"MapRange",
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.MapRange(range, 1, true, budget));
       }},
      {"AuditRange",
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.AuditRange(range, 10, budget));
       }},
      {"AgeRange",
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.AgeRange(range, {}, budget));
       }},
      {"WriteProtectRange",
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.WriteProtectRange(range, 0, budget));
       }},
      {"ProtectRange",
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(
             vm.ProtectRange(range, {.read = true, .write = false}, budget));
       }},
      {"ZapRange",
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.ZapRange(range, budget));
       }},
      {"DiscardRange",
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.DiscardRange(range, budget));
       }},
  };
}

class VmCancelTest : public VmTest {};

TEST_F(VmCancelTest, EveryVerbAsksAfterEachStepWhetherItIsStillWanted) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "ram", 0, kFrames);
  const GfnRange all = WholeRange(vm);
  for (const auto& [name, verb] : Verbs()) {
    if (name != "MapRange") MapAll(vm, all, true, 1);
    int asked = 0;
    const absl::StatusOr<Gfn> next =
        verb(vm, all, {.time = absl::InfiniteDuration(), .cancelled = [&asked] {
                         return ++asked == 3;
                       }});
    ASSERT_TRUE(next.ok()) << name << ": " << next.status();
    EXPECT_EQ(asked, 3) << name << " goes on once it is cancelled";
    EXPECT_LE(next->value(), 3 * kStepFrames) << name;
  }
}

}  // namespace
}  // namespace tdp
