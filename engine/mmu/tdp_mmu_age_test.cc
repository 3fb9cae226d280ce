#include <cerrno>
#include <thread>
#include <vector>

#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

class AgeRangeTest : public TdpMmuTest {
 protected:
  // Frames of the leaves found young.
  std::vector<uint64_t> Age(uint64_t start, uint64_t end, bool test_only) {
    std::vector<uint64_t> young;
    const MmuProgress progress = mmu().AgeRange(
        Frames(start, end), test_only, [] { return false; },
        [&](GfnRange range) {
          for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
            young.push_back(gfn.value());
          }
        });
    EXPECT_TRUE(progress.status.ok()) << progress.status;
    EXPECT_EQ(progress.next_gfn, Gfn(end));
    return young;
  }
};

TEST_F(AgeRangeTest, ATouchedFrameIsYoungOnceAndFaultsAgain) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_EQ(Fault(5, true), FaultResult::kFixed);
  ASSERT_EQ(Fault(7, false), FaultResult::kFixed);
  EXPECT_THAT(Age(0, 64, false), ::testing::ElementsAre(5, 7));
  EXPECT_FALSE(slot.At(Gfn(5)).present);
  EXPECT_TRUE(Entry(5).IsWritable()) << "grants stay as they are";
  EXPECT_THAT(Age(0, 64, false), ::testing::IsEmpty());
  EXPECT_EQ(Fault(5, false), FaultResult::kFixed);
  EXPECT_TRUE(slot.Grants(Gfn(5), true)) << "as the entry says";
  EXPECT_THAT(Age(0, 64, false), ::testing::ElementsAre(5));
}

// The event of a touch had been read when another vCPU's was served, which woke
// both; then the frame was aged.
TEST_F(AgeRangeTest, AnEventOfATouchMadeBeforeLeavesTheFrameOld) {
  AddSlot(0, 64);
  Start();
  const PageFault late = {
      .gfn = Gfn(5), .write = false, .sweeps = mmu().ReadSweeps()};
  ASSERT_EQ(Fault(5, false), FaultResult::kFixed);
  const PageFault later = {
      .gfn = Gfn(5), .write = false, .sequence = mmu().ReadSequence(Gfn(5))};
  EXPECT_THAT(Age(0, 64, false), ::testing::ElementsAre(5));
  EXPECT_EQ(mmu().HandleFault(late).result, FaultResult::kRetry);
  EXPECT_EQ(mmu().HandleFault(later).result, FaultResult::kRetry);
  EXPECT_THAT(Age(0, 64, true), ::testing::IsEmpty());
}

TEST_F(AgeRangeTest, LookingChangesNothing) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(8, 12).status.ok());
  const int64_t calls = host().call_count();
  EXPECT_THAT(Age(9, 64, true), ::testing::ElementsAre(9, 10, 11));
  EXPECT_THAT(Age(9, 64, true), ::testing::ElementsAre(9, 10, 11));
  EXPECT_EQ(host().call_count(), calls);
  EXPECT_TRUE(slot.At(Gfn(9)).present);
}

TEST_F(AgeRangeTest, AHugeLeafIsYoungInEachOfItsFrames) {
  FakeBacking& slot = AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  EXPECT_EQ(Age(8, 16, true).size(), kBlock);
  EXPECT_EQ(Age(8, 16, false).size(), kBlock) << "the whole leaf is old now";
  EXPECT_FALSE(slot.At(Gfn(0)).present);
  EXPECT_EQ(Fault(0, true), FaultResult::kFixed);
  EXPECT_TRUE(slot.Grants(Gfn(kBlock - 1), true)) << "mapped whole again";
}

TEST_F(AgeRangeTest, AFrozenEntryIsPassedBy) {
  AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 4).status.ok());
  TdpMmuPeer::Owner owner(mmu(), Gfn(1));
  EXPECT_THAT(Age(0, 64, false), ::testing::ElementsAre(0, 2, 3));
}

TEST_F(AgeRangeTest, DoesNotTakeTheLock) {
  AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 4).status.ok());
  MmuWriteGuard lock(TdpMmuPeer::Lock(mmu()));
  // In another thread, because this one may not wait for itself.
  std::thread([&] { EXPECT_EQ(Age(0, 64, false).size(), 4u); }).join();
}

TEST_F(AgeRangeTest, AHostFailureKeepsFramesYoung) {
  AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 4).status.ok());
  host().FailNth(1, {.error = ENOMEM});
  const MmuProgress progress = mmu().AgeRange(
      Frames(0, 64), false, [] { return false; },
      [](GfnRange) { FAIL() << "nothing was aged"; });
  EXPECT_FALSE(progress.status.ok());
  host().ClearHook();
  EXPECT_EQ(Age(0, 64, false).size(), 4u);
}

TEST_F(AgeRangeTest, ProtectedFramesAreNeverYoung) {
  AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 4).status.ok());
  ASSERT_TRUE(
      mmu().ProtectRange(Frames(0, 2), {}, [] { return false; }).status.ok());
  EXPECT_THAT(Age(0, 64, false), ::testing::ElementsAre(2, 3));
}

TEST_F(AgeRangeTest, RacesWithFaultsAndZapsKeepTheOneRule) {
  constexpr int kTurns = 500;
  AddSlot(0, kBlock);
  Start();
  SlowHost();
  std::atomic<bool> stop = false;
  std::atomic<int> turns = 0;
  std::thread faults([&] {
    for (uint64_t i = 0; !stop; ++i) (void)Fault(i * 7 % 64, i % 2 == 0);
  });
  std::thread zaps([&] {
    for (uint64_t i = 0; !stop; ++i) {
      if (i % 16 == 0) ZapAll();
      (void)Zap(i % 64, i % 64 + 3);
      ++turns;
    }
  });
  for (int i = 0; i < kTurns || turns < kTurns; ++i) {
    (void)Age(0, 64, i % 3 == 0);
  }
  stop = true;
  faults.join();
  zaps.join();
}

}  // namespace
}  // namespace tdp::testing
