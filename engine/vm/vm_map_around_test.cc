// Faults that map the frames around them.

#include <string>

#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

class MapAroundTest : public VmOnEachHypervisorTest {
 protected:
  static constexpr int64_t kFrames = 4096;
  static constexpr int kAround = 64;

  // Faults that a touch of every frame takes, once they have their content.
  int64_t FaultsOfATouch(Vm& vm, bool write) {
    MapAll(vm, WholeRange(vm), /*write=*/true);
    EXPECT_OK(vm.ZapRange(WholeRange(vm), {}).status());
    const int64_t before = vm.Stats().fault_fixed_count;
    EXPECT_OK(vm.LoadGuest(
        0, TouchGuestConfig{
               .range = WholeRange(vm), .write = write, .pass_count = 1}));
    RunToEnd(vm);
    ExpectCleanAudit(vm, WholeRange(vm));
    return vm.Stats().fault_fixed_count - before;
  }
};

TEST_P(MapAroundTest, AFaultMapsItsNeighboursThatHaveTheirContent) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kFrames, {.map_around_frame_count = kAround});
  // The first fault of each 2 MiB, which lacks its table, is for one frame.
  const int64_t tables = kFrames / 512;
  EXPECT_LE(FaultsOfATouch(vm, /*write=*/true), kFrames / kAround + tables);
  ExpectBytes(vm, 0, kFrames, '\x01');
  ASSERT_OK(
      vm.UpdateMemslot("ram", {.map_around_frame_count = 1}, "").status());
  EXPECT_EQ(FaultsOfATouch(vm, /*write=*/false), kFrames);
}

TEST_P(MapAroundTest, FramesWithoutContentAreLeftAlone) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 512, {.map_around_frame_count = kAround});
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(10), Gfn(12)}, .write = true}));
  RunToEnd(vm);
  EXPECT_EQ(vm.Stats().leaf_4k_count, 2);
  EXPECT_EQ(vm.Stats().fault_fixed_count, 2);
}

// While writes are noticed, one is granted to its frame alone.
TEST_P(MapAroundTest, TheDirtyLogIsExact) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 512,
             {.dirty_log_enabled = true, .map_around_frame_count = kAround});
  MapAll(vm, WholeRange(vm), /*write=*/true);
  ASSERT_OK(vm.ZapRange(WholeRange(vm), {}).status());
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{.range = {Gfn(8), Gfn(9)}, .write = true}));
  RunToEnd(vm);
  std::string expected(64, '\0');
  expected[1] = 1;
  EXPECT_EQ(vm.ReadDirtyLog("ram", "", WholeRange(vm))->bits, expected);
}

TEST_P(MapAroundTest, OutOfRangeIsRefused) {
  Vm& vm = CreateVm(GetParam(), 1);
  for (const int frames : {-1, 513}) {
    const auto status = vm.CreateMemslot("ram",
                                         {.base_gfn = Gfn(0),
                                          .frame_count = 16,
                                          .map_around_frame_count = frames},
                                         false)
                            .status();
    EXPECT_EQ(ReasonOf(status), ErrorReason::kFieldInvalid) << frames;
  }
}

INSTANTIATE_ON_EACH_HYPERVISOR(MapAroundTest);

}  // namespace
}  // namespace tdp
