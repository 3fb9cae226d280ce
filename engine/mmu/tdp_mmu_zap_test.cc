#include <cerrno>
#include <thread>

#include "engine/base/errors.h"
#include "engine/testing/event.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

using ZapRangeTest = TdpMmuTest;

TEST_F(ZapRangeTest, RemovesTheLeavesOfTheRangeAndNoOther) {
  FakeBacking& slot = AddSlot(0, 1024);
  Start();
  ASSERT_TRUE(Map(0, 100, {.max_level = PageLevel::k4K}).status.ok());
  const MmuProgress progress = Zap(10, 20);
  ASSERT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.next_gfn, Gfn(20));
  EXPECT_EQ(progress.changed_frames, 10);
  EXPECT_EQ(Leaves(PageLevel::k4K), 90);
  EXPECT_THAT(Entry(10), IsNonPresent());
  EXPECT_THAT(Entry(9), IsReadOnlyLeaf());
  EXPECT_THAT(Entry(20), IsReadOnlyLeaf());
  EXPECT_FALSE(slot.At(Gfn(10)).present);
  EXPECT_TRUE(slot.HasContent(Gfn(10))) << "the bytes stay";
}

TEST_F(ZapRangeTest, NothingMappedIsNothingToDo) {
  AddSlot(0, 1024);
  Start();
  const MmuProgress progress = Zap(0, mmu().span().end.value());
  EXPECT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.changed_frames, 0);
  EXPECT_EQ(progress.next_gfn, mmu().span().end);
  EXPECT_EQ(host().call_count(), 0);
}

TEST_F(ZapRangeTest, FramesWithoutAMemslotAndBeyondTheRootAreNoError) {
  AddSlot(0, 4);
  Start();
  EXPECT_TRUE(Zap(1'000'000, 2'000'000).status.ok());
  EXPECT_TRUE(Zap(0, ~uint64_t{0}).status.ok());
  EXPECT_TRUE(Zap(5, 5).status.ok());
}

TEST_F(ZapRangeTest, AHugeLeafThatOverlapsGoesAsAWhole) {
  AddSlot(0, 4 * kBlock);
  Start();
  ASSERT_TRUE(MapWritable(0, 4 * kBlock).status.ok());
  const MmuProgress progress = Zap(2 * kBlock - 1, 2 * kBlock + 1);
  EXPECT_EQ(progress.changed_frames, static_cast<int64_t>(2 * kBlock));
  EXPECT_EQ(progress.next_gfn, Gfn(2 * kBlock + 1));
  EXPECT_EQ(Leaves(PageLevel::k2M), 2);
  EXPECT_THAT(Entry(0), IsWritableLeaf());
  EXPECT_THAT(Entry(3 * kBlock), IsWritableLeaf());
}

TEST_F(ZapRangeTest, RunsEndAtTheEdgesOfTablesAndMemslots) {
  AddSlot(0, 300);
  AddSlot(300, 300);
  Start();
  ASSERT_TRUE(Map(0, 600).status.ok());
  const int64_t before = host().call_count();
  EXPECT_EQ(Zap(0, 600).changed_frames, 600);
  EXPECT_EQ(host().call_count() - before, 3)
      << "[0, 300), [300, 512), [512, 600)";
}

TEST_F(ZapRangeTest, TheFirstAndTheLastFrameOfAMemslotAreZapped) {
  AddSlot(511, 3);
  Start();
  ASSERT_TRUE(Map(511, 514).status.ok());
  EXPECT_EQ(Zap(511, 512).changed_frames, 1);
  EXPECT_EQ(Zap(513, 514).changed_frames, 1);
  EXPECT_EQ(Leaves(PageLevel::k4K), 1);
  EXPECT_THAT(Entry(512), IsReadOnlyLeaf());
}

TEST_F(ZapRangeTest, ADyingMemslotCanStillBeZapped) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  slot.CloseForMap();
  EXPECT_EQ(Zap(0, 64).changed_frames, 64);
  EXPECT_EQ(Fault(0, false), FaultResult::kChanging);
  slot.ReopenForMap();
}

TEST_F(ZapRangeTest, AFailureKeepsTheEntriesAndCanBeRepeated) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  AllowStricterHost();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  // As the real host: part of the run is gone, and none is admitted.
  host().FailNth(1, {.error = ENOMEM, .applied_frames = 30});
  const uint64_t wakes = slot.WakeCount(Gfn(0));
  const MmuProgress progress = Zap(0, 64);
  EXPECT_FALSE(progress.status.ok());
  EXPECT_EQ(progress.next_gfn, Gfn(0));
  EXPECT_EQ(progress.changed_frames, 0);
  EXPECT_THAT(Entry(0), IsWritableLeaf());
  EXPECT_GT(slot.WakeCount(Gfn(0)), wakes) << "sleepers look again";
  EXPECT_EQ(Fault(0, true), FaultResult::kSpurious);
  EXPECT_EQ(Zap(0, 64).changed_frames, 64);
}

TEST_F(ZapRangeTest, AStopEndsItAfterAStep) {
  AddSlot(0, 4 * kBlock);
  Start();
  ASSERT_TRUE(MapWritable(0, 4 * kBlock).status.ok());
  const MmuProgress progress =
      mmu().ZapRange(Frames(0, 4 * kBlock), [] { return true; });
  EXPECT_EQ(progress.next_gfn, Gfn(kBlock));
  EXPECT_EQ(Leaves(PageLevel::k2M), 3);
}

TEST_F(ZapRangeTest, StopsLeadThroughEmptyTablesInBoundedSteps) {
  constexpr uint64_t kBlocks = 256;
  AddSlot(0, kBlocks * kBlock);
  Start();
  for (uint64_t block = 0; block < kBlocks; ++block) {
    ASSERT_TRUE(Map(block * kBlock, block * kBlock + 1).status.ok());
  }
  EXPECT_EQ(Zap(0, kBlocks * kBlock).changed_frames,
            static_cast<int64_t>(kBlocks));
  int steps = 0;
  Gfn next(0);
  while (next < Gfn(kBlocks * kBlock)) {
    const MmuProgress progress =
        mmu().ZapRange({next, Gfn(kBlocks * kBlock)}, [] { return true; });
    ASSERT_GT(progress.next_gfn, next);
    next = progress.next_gfn;
    ++steps;
  }
  EXPECT_GT(steps, 1) << "131072 empty entries are more than one section";
}

TEST_F(ZapRangeTest, A1GLeafIsSplitAndOnlyItsBlockIsZapped) {
  const uint64_t giant = FramesPerEntry(PageLevel::k1G);
  FakeBacking& slot = AddSlot(0, giant);
  Start();
  InstallGiantLeaf(slot, Gfn(0), /*writable=*/true);
  EXPECT_EQ(Leaves(PageLevel::k1G), 1);
  const MmuProgress progress = Zap(giant - 1, giant);
  ASSERT_TRUE(progress.status.ok()) << progress.status;
  EXPECT_EQ(progress.changed_frames, static_cast<int64_t>(kBlock));
  EXPECT_EQ(Leaves(PageLevel::k1G), 0);
  EXPECT_EQ(Leaves(PageLevel::k2M), 511);
  EXPECT_THAT(Entry(giant - 1), IsNonPresent());
  EXPECT_THAT(Entry(giant - kBlock - 1), IsWritableLeaf());
  EXPECT_TRUE(slot.Grants(Gfn(0), true)) << "a split changes no translation";
}

TEST_F(ZapRangeTest, A1GLeafGoesWithItsRoot) {
  const uint64_t giant = FramesPerEntry(PageLevel::k1G);
  FakeBacking& slot = AddSlot(giant, giant);
  Start();
  InstallGiantLeaf(slot, Gfn(giant), /*writable=*/false);
  ZapAll();
  EXPECT_EQ(Leaves(PageLevel::k1G), 0);
  EXPECT_EQ(Leaves(PageLevel::k2M), 0);
  EXPECT_FALSE(slot.At(Gfn(giant)).present);
}

TEST_F(ZapRangeTest, WaitsForTheOwnerOfAFrozenEntry) {
  AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Map(0, 64).status.ok());
  Event done;
  std::thread zapper;
  {
    TdpMmuPeer::Owner owner(mmu(), Gfn(5));
    zapper = std::thread([&] {
      EXPECT_EQ(Zap(0, 64).changed_frames, 64);
      done.Set();
    });
    EXPECT_FALSE(done.Wait(absl::Milliseconds(50)));
    EXPECT_TRUE(TdpMmuPeer::IsFrozen(mmu(), Gfn(5)));
  }
  EXPECT_TRUE(done.Wait());
  zapper.join();
  EXPECT_THAT(Entry(5), IsNonPresent());
}

TEST_F(ZapRangeTest, AMapInItsHostCallIsWaitedForAndZapped) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  Event inside;
  Event go_on;
  host().set_hook([&](const HostCall& call) {
    if (call.number == 1) {
      inside.Set();
      EXPECT_TRUE(go_on.Wait());
    }
    return HostFailure{};
  });
  std::thread mapper([&] { EXPECT_TRUE(MapWritable(0, 64).status.ok()); });
  ASSERT_TRUE(inside.Wait());
  Event done;
  std::thread zapper([&] {
    EXPECT_EQ(Zap(0, 64).changed_frames, 64);
    done.Set();
  });
  EXPECT_FALSE(done.Wait(absl::Milliseconds(50)));
  go_on.Set();
  EXPECT_TRUE(done.Wait());
  mapper.join();
  zapper.join();
  EXPECT_FALSE(slot.At(Gfn(0)).present);
}

}  // namespace
}  // namespace tdp::testing
