// Which way writes become known, and what that rules out.

#include <string>

#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

class DirtyModeTest : public VmTest {
 protected:
  static DirtyMode ModeOf(const Vm& vm) {
    return vm.GetMemslot("ram")->config.dirty_mode;
  }
};

TEST_F(DirtyModeTest, KvmHarvestsItsOwnLogUnlessToldOtherwise) {
  if (!HasKvm()) GTEST_SKIP() << "KVM does not work here";
  Vm& vm = CreateVm(HypervisorKind::kKvm, 1);
  AddMemslot(vm, "ram", 0, 16);
  EXPECT_EQ(ModeOf(vm), DirtyMode::kHarvest);
  // KVM holds writes back whatever its log does.
  EXPECT_OK(vm.WriteProtectRange(WholeRange(vm), 0, {}).status());
  EXPECT_OK(vm.ProtectRange(WholeRange(vm), {.read = true}, {}).status());
  EXPECT_OK(vm.UpdateMemslot("ram", {.read_only = true}, "").status());
}

TEST_F(DirtyModeTest, TheSoftwareHypervisorWriteProtectsUnlessToldOtherwise) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "ram", 0, 16);
  EXPECT_EQ(ModeOf(vm), DirtyMode::kWriteProtect);
}

TEST_F(DirtyModeTest, AWindowThatNotesWritesHoldsNoneBackAndSaysSo) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "ram", 0, 16, {.dirty_mode = DirtyMode::kHarvest});
  AddMemslot(vm, "rom", 32, 16);
  const GfnRange all = WholeRange(vm);
  const auto conflict = ErrorReason::kOperationConflict;
  EXPECT_EQ(ReasonOf(vm.WriteProtectRange(all, 0, {}).status()), conflict);
  const GfnRange ram = {Gfn(0), Gfn(16)};
  EXPECT_EQ(ReasonOf(vm.ProtectRange(ram, {.read = true}, {}).status()),
            conflict);
  EXPECT_EQ(
      ReasonOf(
          vm.ApplyBatch({{BatchOperation{.kind = BatchOperation::Kind::kProtect,
                                         .range = ram,
                                         .access = {.read = true}}}})
              .status()),
      conflict);
  EXPECT_EQ(ReasonOf(vm.UpdateMemslot("ram", {.read_only = true}, "").status()),
            ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(vm.CreateMemslot("more",
                                      {.base_gfn = Gfn(64),
                                       .frame_count = 1,
                                       .read_only = true,
                                       .dirty_mode = DirtyMode::kHarvest},
                                      false)
                         .status()),
            ErrorReason::kFieldInvalid);
  // What it can enforce, and its neighbours.
  EXPECT_OK(vm.ProtectRange(ram, {}, {}).status());
  EXPECT_OK(vm.WriteProtectRange({Gfn(32), Gfn(48)}, 0, {}).status());
}

TEST_F(DirtyModeTest, AMapWithoutWriteGrantsWhatTheWindowGrants) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "ram", 0, 16,
             {.dirty_log_enabled = true, .dirty_mode = DirtyMode::kHarvest});
  MapAll(vm, WholeRange(vm), /*write=*/false);
  EXPECT_TRUE(vm.WalkGfn(Gfn(3))->back().access.write);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_F(DirtyModeTest, AReadAfterALimitGrantsWhatTheWindowGrants) {
  Vm& vm = CreateVm(HypervisorKind::kSoftware, 1);
  AddMemslot(vm, "ram", 0, 16,
             {.dirty_log_enabled = true, .dirty_mode = DirtyMode::kHarvest});
  const GfnRange all = WholeRange(vm);
  MapAll(vm, all, /*write=*/true);
  ASSERT_OK(vm.ProtectRange(all, {}, {}).status());
  ASSERT_OK(vm.ProtectRange(all, {.read = true, .write = true}, {}).status());
  ASSERT_OK(vm.LoadGuest(0, TouchGuestConfig{.range = all}));
  RunToEnd(vm);
  EXPECT_TRUE(vm.WalkGfn(Gfn(3))->back().access.write);
  ExpectCleanAudit(vm, all);
}

}  // namespace
}  // namespace tdp
