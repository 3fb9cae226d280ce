#include <cerrno>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

constexpr Access kNone = {};
constexpr Access kRead = {.read = true};
constexpr Access kReadWrite = {.read = true, .write = true};

class ProtectTest : public TdpMmuTest {
 protected:
  MmuProgress Protect(uint64_t start, uint64_t end, Access limit) {
    return mmu().ProtectRange(Frames(start, end), limit, [] { return false; });
  }
  MmuProgress WriteProtect(uint64_t start, uint64_t end,
                           PageLevel min_level = PageLevel::k4K) {
    return mmu().WriteProtectRange(Frames(start, end), min_level,
                                   [] { return false; });
  }
};

using ProtectRangeTest = ProtectTest;
using WriteProtectRangeTest = ProtectTest;

TEST_F(ProtectRangeTest, ReadOnlyTakesWritesFromMappedFramesForGood) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  const MmuProgress progress = Protect(8, 16, kRead);
  EXPECT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.next_gfn, Gfn(16));
  EXPECT_EQ(progress.changed_entries, 8);
  EXPECT_FALSE(slot.Grants(Gfn(8), true));
  EXPECT_TRUE(slot.Grants(Gfn(8), false));
  EXPECT_TRUE(slot.Grants(Gfn(7), true));
  EXPECT_TRUE(slot.Grants(Gfn(16), true));
  EXPECT_EQ(Fault(8, true), FaultResult::kForbidden);
  EXPECT_EQ(Fault(8, false), FaultResult::kSpurious);
  EXPECT_EQ(Protect(8, 16, kRead).changed_entries, 0) << "idempotent";
}

// The caller looks first; a memslot may come in between.
TEST_F(ProtectRangeTest, WhatCannotBeMappedReadOnlyNeverIs) {
  FakeBacking& slot =
      AddSlot({.range = Frames(0, 64), .write_protects = false});
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  const absl::Status changing = Protect(8, 16, kRead).status;
  ASSERT_TRUE(DetailOf(changing).has_value());
  EXPECT_EQ(DetailOf(changing)->reason, ErrorReason::kOperationConflict);
  EXPECT_EQ(WriteProtect(0, 64).changed_entries, 0);
  for (const MmuOperation::Kind kind :
       {MmuOperation::Kind::kProtect, MmuOperation::Kind::kWriteProtect}) {
    const std::vector<MmuOperation> batch = {
        {.kind = kind, .range = Frames(8, 16), .access = kRead}};
    EXPECT_EQ(DetailOf(mmu().ApplyBatch(batch).status)->reason,
              ErrorReason::kOperationConflict);
  }
  EXPECT_TRUE(slot.Grants(Gfn(8), true));
  EXPECT_TRUE(Entry(8).IsWritable());
  // No access and all of it can be had. A read is granted whole.
  ASSERT_TRUE(Protect(8, 16, kNone).status.ok());
  EXPECT_FALSE(slot.Grants(Gfn(8), false));
  ASSERT_TRUE(Protect(8, 16, kReadWrite).status.ok());
  EXPECT_EQ(Fault(8, false), FaultResult::kFixed);
  EXPECT_TRUE(slot.Grants(Gfn(8), true));
  EXPECT_TRUE(Entry(8).IsWritable());
}

TEST_F(ProtectRangeTest, ALimitHoldsForFramesThatAreMappedLater) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Protect(8, 16, kRead).status.ok());
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  EXPECT_TRUE(slot.Grants(Gfn(8), false));
  EXPECT_FALSE(slot.Grants(Gfn(8), true));
  EXPECT_TRUE(slot.Grants(Gfn(16), true));
  ASSERT_TRUE(Zap(0, 64).status.ok());
  EXPECT_EQ(Fault(9, true), FaultResult::kForbidden);
  EXPECT_THAT(Entry(9), IsNonPresent()) << "nothing is installed for it";
  EXPECT_EQ(Fault(9, false), FaultResult::kFixed);
  EXPECT_THAT(Entry(9), IsReadOnlyLeaf());
  EXPECT_EQ(Fault(9, true), FaultResult::kForbidden);
}

TEST_F(ProtectRangeTest, NoAccessUnmapsAndKeepsUnmapped) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 32).status.ok());
  EXPECT_EQ(Protect(8, 40, kNone).changed_entries, 24);
  EXPECT_FALSE(slot.At(Gfn(8)).present);
  EXPECT_EQ(Leaves(PageLevel::k4K), 32) << "the leaves keep their frames";
  EXPECT_EQ(Fault(8, false), FaultResult::kForbidden);
  EXPECT_EQ(Fault(35, false), FaultResult::kForbidden);
  const MmuProgress map = MapWritable(0, 64);
  EXPECT_TRUE(map.status.ok()) << "a map passes by what nothing may touch";
  EXPECT_EQ(map.changed_frames, 24);
  EXPECT_THAT(Entry(35), IsNonPresent());
}

TEST_F(ProtectRangeTest, LiftingALimitGrantsAtTheNextFault) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  ASSERT_TRUE(Protect(0, 32, kNone).status.ok());
  ASSERT_TRUE(Protect(32, 64, kRead).status.ok());
  EXPECT_EQ(Protect(0, 64, kReadWrite).changed_entries, 64);
  EXPECT_FALSE(slot.At(Gfn(0)).present) << "the next touch maps it";
  EXPECT_EQ(Fault(0, true), FaultResult::kFixed);
  EXPECT_TRUE(slot.Grants(Gfn(0), true));
  EXPECT_EQ(Fault(1, false), FaultResult::kFixed);
  EXPECT_EQ(Fault(40, true), FaultResult::kWriteProtected);
  EXPECT_TRUE(slot.Grants(Gfn(40), true));
}

TEST_F(ProtectRangeTest, NeverGrantsMoreThanTheMemslot) {
  AddSlot(0, 64, PageLevel::k4K, /*writable=*/false);
  Start();
  ASSERT_TRUE(Map(0, 64).status.ok());
  EXPECT_EQ(Protect(0, 64, kReadWrite).changed_entries, 0);
  EXPECT_EQ(Fault(0, true), FaultResult::kForbidden);
}

TEST_F(ProtectRangeTest, AHugeLeafThatStraddlesIsSplit) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  ASSERT_EQ(Leaves(PageLevel::k2M), 2);
  EXPECT_TRUE(Protect(kBlock - 8, kBlock, kRead).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 1);
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kBlock));
  EXPECT_TRUE(slot.Grants(Gfn(kBlock - 9), true));
  EXPECT_FALSE(slot.Grants(Gfn(kBlock - 8), true));
  EXPECT_TRUE(slot.Grants(Gfn(kBlock), true));
}

TEST_F(ProtectRangeTest, AWholeHugeLeafStaysHuge) {
  AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  EXPECT_EQ(Protect(0, kBlock, kRead).changed_entries, 1);
  EXPECT_EQ(Leaves(PageLevel::k2M), 2);
}

TEST_F(ProtectRangeTest, NoHugeLeafIsInstalledAcrossALimit) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(Protect(5, 6, kRead).status.ok());
  EXPECT_EQ(Fault(9, true), FaultResult::kFixed);
  EXPECT_EQ(Last(9).level, PageLevel::k4K);
  EXPECT_EQ(Fault(kBlock + 9, true), FaultResult::kFixed);
  EXPECT_EQ(Last(kBlock + 9).level, PageLevel::k2M);
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  EXPECT_FALSE(slot.Grants(Gfn(5), true));
  EXPECT_TRUE(slot.Grants(Gfn(6), true));
}

TEST_F(ProtectRangeTest, EveryFrameMustBeBacked) {
  AddSlot(0, 64);
  Start();
  const MmuProgress progress = Protect(32, 65, kNone);
  EXPECT_EQ(ReasonOf(progress.status), ErrorReason::kGfnNotBacked);
  EXPECT_EQ(progress.next_gfn, Gfn(32));
  EXPECT_EQ(Fault(32, true), FaultResult::kFixed) << "nothing changed";
}

TEST_F(ProtectRangeTest, LimitsMoveAndGoWithTheirMemslot) {
  AddSlot(0, 64);
  AddSlot(512, 64);
  Start();
  ASSERT_TRUE(Protect(8, 16, kRead).status.ok());
  mmu().MoveLimits(Frames(0, 64), Gfn(512));
  EXPECT_EQ(mmu().LimitOf(Gfn(8)), kReadWrite);
  EXPECT_EQ(mmu().LimitOf(Gfn(520)), kRead);
  EXPECT_EQ(Fault(520, true), FaultResult::kForbidden);
  mmu().ClearLimits(Frames(512, 576));
  EXPECT_EQ(Fault(520, true), FaultResult::kFixed);
}

TEST_F(ProtectRangeTest, AHostFailureKeepsTheLimitOfWhatWasNotReached) {
  AddSlot(0, 2 * kBlock);
  Start();
  const MapOptions small = {.max_level = PageLevel::k4K, .write = true};
  ASSERT_TRUE(Map(0, 2 * kBlock, small).status.ok());
  host().FailNth(2, {.error = ENOMEM});
  const MmuProgress progress = Protect(0, 2 * kBlock, kRead);
  EXPECT_FALSE(progress.status.ok());
  EXPECT_EQ(progress.next_gfn, Gfn(kBlock));
  EXPECT_EQ(mmu().LimitOf(Gfn(kBlock - 1)), kRead);
  EXPECT_EQ(mmu().LimitOf(Gfn(kBlock)), kReadWrite);
  host().ClearHook();
  EXPECT_TRUE(Protect(kBlock, 2 * kBlock, kRead).status.ok());
  EXPECT_EQ(mmu().LimitOf(Gfn(2 * kBlock - 1)), kRead);
}

TEST_F(ProtectRangeTest, TheNumberOfRangesIsLimited) {
  constexpr uint64_t kFrames = 3 * 4096;
  AddSlot(0, kFrames);
  Start();
  absl::Status status;
  uint64_t gfn = 0;
  for (; status.ok() && gfn < kFrames; gfn += 2) {
    status = Protect(gfn, gfn + 1, kRead).status;
  }
  EXPECT_EQ(ReasonOf(status), ErrorReason::kLimitReached);
  EXPECT_EQ(gfn, 2 * 4097u);
  EXPECT_TRUE(Protect(0, kFrames, kRead).status.ok()) << "they merge";
  EXPECT_TRUE(Protect(gfn, gfn + 1, kReadWrite).status.ok());
}

TEST_F(ProtectRangeTest, AFaultFromBeforeALimitDoesNotInstallUnderTheOldOne) {
  AddSlot(0, 64);
  Start();
  const ChangeSequence::Snapshot before = mmu().ReadSequence(Gfn(5));
  ASSERT_TRUE(Protect(0, 64, kNone).status.ok());
  const PageFault stale = {.gfn = Gfn(5), .write = true, .sequence = before};
  EXPECT_EQ(mmu().HandleFault(stale).result, FaultResult::kRetry);
  EXPECT_THAT(Entry(5), IsNonPresent());
}

TEST_F(ProtectRangeTest, RacesWithFaultsAndMapsNeverGrantBeyondTheLimit) {
  constexpr int kTurns = 300;
  FakeBacking& slot = AddSlot(0, kBlock);
  Start();
  SlowHost();
  std::atomic<bool> stop = false;
  std::atomic<int> turns = 0;
  std::thread faults([&] {
    for (uint64_t i = 0; !stop; ++i) (void)Fault(i * 7 % 64, i % 2 == 0);
  });
  std::thread maps([&] {
    while (!stop) {
      (void)MapWritable(0, 64);
      (void)Zap(0, 64);
      ++turns;
    }
  });
  for (int i = 0; i < kTurns || turns < kTurns; ++i) {
    ASSERT_TRUE(Protect(0, 64, kRead).status.ok());
    for (uint64_t gfn = 0; gfn < 64; ++gfn) {
      ASSERT_FALSE(slot.Grants(Gfn(gfn), true)) << gfn;
    }
    ASSERT_TRUE(Protect(0, 64, kNone).status.ok());
    for (uint64_t gfn = 0; gfn < 64; ++gfn) {
      ASSERT_FALSE(slot.Grants(Gfn(gfn), false)) << gfn;
    }
    ASSERT_TRUE(Protect(0, 64, kReadWrite).status.ok());
  }
  stop = true;
  faults.join();
  maps.join();
}

TEST_F(WriteProtectRangeTest, TheNextWriteFaultsAndIsGranted) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  const MmuProgress progress = WriteProtect(8, 16);
  EXPECT_EQ(progress.changed_entries, 8);
  EXPECT_EQ(progress.next_gfn, Gfn(16));
  EXPECT_FALSE(slot.Grants(Gfn(8), true));
  EXPECT_TRUE(Entry(8).IsDirty()) << "what was written stays written";
  EXPECT_EQ(WriteProtect(8, 16).changed_entries, 0) << "idempotent";
  EXPECT_EQ(Fault(8, true), FaultResult::kWriteProtected);
  EXPECT_TRUE(slot.Grants(Gfn(8), true));
}

TEST_F(WriteProtectRangeTest, LeavesSmallerLeavesAlone) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(
      Map(0, 8, {.max_level = PageLevel::k4K, .write = true}).status.ok());
  ASSERT_TRUE(MapWritable(kBlock, 2 * kBlock).status.ok());
  EXPECT_EQ(WriteProtect(0, 2 * kBlock, PageLevel::k2M).changed_entries, 1);
  EXPECT_TRUE(slot.Grants(Gfn(0), true));
  EXPECT_FALSE(slot.Grants(Gfn(kBlock), true));
  EXPECT_EQ(Fault(kBlock + 3, true), FaultResult::kWriteProtected);
  EXPECT_TRUE(slot.Grants(Gfn(2 * kBlock - 1), true)) << "granted whole";
}

TEST_F(WriteProtectRangeTest, AGiantLeafIsSplitFirst) {
  constexpr uint64_t kGiant = FramesPerEntry(PageLevel::k1G);
  FakeBacking& slot = AddSlot(0, kGiant, PageLevel::k2M);
  Start();
  InstallGiantLeaf(slot, Gfn(0), /*writable=*/true);
  EXPECT_EQ(WriteProtect(0, kGiant).changed_entries, 512);
  EXPECT_EQ(Leaves(PageLevel::k1G), 0);
  EXPECT_EQ(Leaves(PageLevel::k2M), 512);
  EXPECT_FALSE(slot.Grants(Gfn(kGiant - 1), true));
}

TEST_F(WriteProtectRangeTest, FramesWithoutMemslotAreSkipped) {
  AddSlot(0, 8);
  Start();
  ASSERT_TRUE(MapWritable(0, 8).status.ok());
  const MmuProgress progress = WriteProtect(0, 1 << 20);
  EXPECT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.changed_entries, 8);
  EXPECT_EQ(progress.next_gfn, Gfn(1 << 20));
}

TEST_F(WriteProtectRangeTest, AHostFailureKeepsTheEntriesAndCanBeRepeated) {
  AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  host().FailNth(1, {.error = EAGAIN, .applied_frames = 10});
  AllowStricterHost();
  EXPECT_FALSE(WriteProtect(0, 64).status.ok());
  EXPECT_TRUE(Entry(0).IsWritable());
  host().ClearHook();
  EXPECT_EQ(WriteProtect(0, 64).changed_entries, 64);
}

}  // namespace
}  // namespace tdp::testing
