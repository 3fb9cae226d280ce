// How far a ranged call goes on when nobody wants its answer any more: counted
// in frames, so that no slow machine matters.

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/vm/vm_test_util.h"

namespace tdp {
namespace {

constexpr uint64_t kFrames = 48 * 512;  // 96 MiB: 48 tables
// What a step covers at most: a table, or so many where a piece of the range is
// changed before its leaves are.
constexpr uint64_t kTable = 512;
constexpr uint64_t kPiece = 16 * kTable;

using Verb = std::function<absl::StatusOr<Gfn>(Vm&, GfnRange, WorkBudget)>;

template <typename Result>
absl::StatusOr<Gfn> NextOf(const absl::StatusOr<Result>& result) {
  if (!result.ok()) return result.status();
  return result->next_gfn;
}

struct Row {
  std::string name;
  uint64_t step;
  Verb verb;
};

std::vector<Row> Verbs() {
  return {
      {"MapRange", kTable,
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.MapRange(range, 1, true, budget));
       }},
      {"AuditRange", kTable,
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.AuditRange(range, 10, budget));
       }},
      {"AgeRange", kTable,
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.AgeRange(range, {}, budget));
       }},
      {"WriteProtectRange", kTable,
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.WriteProtectRange(range, 0, budget));
       }},
      {"ProtectRange", kPiece,
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(
             vm.ProtectRange(range, {.read = true, .write = false}, budget));
       }},
      {"ZapRange", kTable,
       [](Vm& vm, GfnRange range, const WorkBudget& budget) {
         return NextOf(vm.ZapRange(range, budget));
       }},
      {"DiscardRange", kPiece,
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
  for (const auto& [name, step, verb] : Verbs()) {
    if (name != "MapRange") MapAll(vm, all, true, 1);
    int asked = 0;
    const absl::StatusOr<Gfn> next =
        verb(vm, all, {.time = absl::InfiniteDuration(), .cancelled = [&asked] {
                         return ++asked == 2;
                       }});
    ASSERT_TRUE(next.ok()) << name << ": " << next.status();
    EXPECT_EQ(asked, 2) << name << " goes on once it is cancelled";
    EXPECT_LE(next->value(), 2 * step) << name;
  }
}

}  // namespace
}  // namespace tdp
