// Noticing writes: what the dirty log asks of the page tables.

#include <cerrno>
#include <vector>

#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

bool Never() { return false; }

class DirtyTest : public TdpMmuTest {
 protected:
  // As a dirty log that is switched on.
  void Track(FakeBacking& slot) {
    slot.set_tracks_writes(true);
    ASSERT_TRUE(mmu()
                    .WriteProtectRange(slot.range(), PageLevel::k4K, Never)
                    .status.ok());
  }
  MmuProgress Protect(uint64_t first, std::vector<uint64_t> bits) {
    return mmu().WriteProtectFrames(Gfn(first), bits, Never);
  }
};

TEST_F(DirtyTest, AWriteIsNotedAndAReadIsNot) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  Track(slot);
  EXPECT_EQ(Fault(3, false), FaultResult::kFixed);
  EXPECT_THAT(Entry(3), IsReadOnlyLeaf());
  EXPECT_THAT(slot.TakeWritten(), IsEmpty());
  EXPECT_EQ(Fault(3, true), FaultResult::kWriteProtected);
  EXPECT_EQ(Fault(4, true), FaultResult::kFixed);
  EXPECT_TRUE(slot.Grants(Gfn(3), true));
  EXPECT_TRUE(slot.Grants(Gfn(4), true));
  EXPECT_THAT(slot.TakeWritten(), ElementsAre(Gfn(3), Gfn(4)));
}

TEST_F(DirtyTest, NothingIsNotedWhileWritesAreNotTracked) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  EXPECT_EQ(Fault(3, true), FaultResult::kFixed);
  EXPECT_EQ(Fault(5, false), FaultResult::kFixed);
  EXPECT_TRUE(slot.Grants(Gfn(5), true)) << "writable before it is written";
  EXPECT_THAT(slot.TakeWritten(), IsEmpty());
}

TEST_F(DirtyTest, AMapIsNoWrite) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  Track(slot);
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 2);
  EXPECT_FALSE(slot.Grants(Gfn(0), true));
  ASSERT_TRUE(mmu()
                  .ApplyBatch(std::vector<MmuOperation>{
                      {.kind = MmuOperation::Kind::kMap,
                       .range = Frames(0, kBlock),
                       .write = true}})
                  .status.ok());
  EXPECT_FALSE(slot.Grants(Gfn(0), true));
  EXPECT_THAT(slot.TakeWritten(), IsEmpty());
}

TEST_F(DirtyTest, AHugeLeafStaysUntilItIsWrittenAndThenOneFrameIs) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  Track(slot);
  EXPECT_EQ(Leaves(PageLevel::k2M), 2);
  EXPECT_EQ(Fault(7, true), FaultResult::kWriteProtected);
  EXPECT_EQ(Leaves(PageLevel::k2M), 1);
  EXPECT_THAT(slot.TakeWritten(), ElementsAre(Gfn(7)));
  EXPECT_TRUE(slot.Grants(Gfn(7), true));
  EXPECT_FALSE(slot.Grants(Gfn(8), true));
  EXPECT_TRUE(slot.Grants(Gfn(8), false));
}

TEST_F(DirtyTest, AnAgedHugeLeafIsGrantedFrameByFrameToo) {
  FakeBacking& slot = AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  Track(slot);
  mmu().AgeRange(Frames(0, kBlock), false, Never, [](GfnRange) {});
  Fault(7, true);
  EXPECT_THAT(slot.TakeWritten(), ElementsAre(Gfn(7)));
  EXPECT_FALSE(slot.Grants(Gfn(8), true));
}

TEST_F(DirtyTest, WriteProtectsExactlyTheFramesThatAreNamed) {
  FakeBacking& slot = AddSlot(0, 256);
  Start();
  ASSERT_TRUE(MapWritable(0, 256).status.ok());
  const MmuProgress progress = Protect(64, {uint64_t{0b1011}, 0, 1});
  ASSERT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.changed_entries, 4);
  std::vector<uint64_t> protected_frames;
  for (uint64_t gfn = 0; gfn < 256; ++gfn) {
    if (!slot.Grants(Gfn(gfn), true)) protected_frames.push_back(gfn);
  }
  EXPECT_THAT(protected_frames, ElementsAre(64, 65, 67, 192));
}

// Two vCPUs write to a frame. The event of one has been read when the other is
// served, which wakes both; then the log is cleared.
TEST_F(DirtyTest, AnEventOfAWriteMadeBeforeAClearMarksNothingAfterIt) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  Track(slot);
  const uint64_t sweeps = mmu().ReadSweeps();
  const PageFault late = {.gfn = Gfn(3),
                          .write = true,
                          .sequence = mmu().ReadSequence(Gfn(3)),
                          .sweeps = sweeps};
  ASSERT_EQ(Fault(3, true), FaultResult::kFixed);
  ASSERT_THAT(slot.TakeWritten(), ElementsAre(Gfn(3)));
  ASSERT_EQ(Protect(0, {8}).changed_entries, 1);
  EXPECT_EQ(mmu().HandleFault(late).result, FaultResult::kRetry);
  // The same if the sequence was read late, or only the sequence is known.
  EXPECT_EQ(mmu()
                .HandleFault({.gfn = Gfn(3), .write = true, .sweeps = sweeps})
                .result,
            FaultResult::kRetry);
  EXPECT_EQ(mmu()
                .HandleFault(
                    {.gfn = Gfn(3), .write = true, .sequence = late.sequence})
                .result,
            FaultResult::kRetry);
  EXPECT_THAT(slot.TakeWritten(), IsEmpty());
  EXPECT_FALSE(slot.Grants(Gfn(3), true));
}

TEST_F(DirtyTest, AWriteThatWasGrantedIsNotMarkedAgain) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  Track(slot);
  ASSERT_EQ(Fault(3, true), FaultResult::kFixed);
  ASSERT_THAT(slot.TakeWritten(), ElementsAre(Gfn(3)));
  EXPECT_EQ(Fault(3, true), FaultResult::kSpurious);
  EXPECT_THAT(slot.TakeWritten(), IsEmpty());
}

TEST_F(DirtyTest, AHugeLeafWithOneOfTheFramesIsProtectedWhole) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  EXPECT_EQ(Protect(64, {0, 0}).changed_entries, 0);
  EXPECT_EQ(Protect(64, {0, 2}).changed_entries, 1);
  EXPECT_FALSE(slot.Grants(Gfn(0), true));
  EXPECT_TRUE(slot.Grants(Gfn(kBlock), true));
}

TEST_F(DirtyTest, GrantedWritesLetHugeLeavesComeBack) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  Track(slot);
  Fault(7, true);
  slot.set_tracks_writes(false);
  ASSERT_TRUE(mmu().GrantWrites(slot.range(), Never).status.ok());
  EXPECT_TRUE(slot.Grants(Gfn(8), true));
  EXPECT_TRUE(slot.Grants(Gfn(kBlock), true));
  mmu().CollapseHugePages(slot.range(), PageLevel::k2M, Never);
  EXPECT_EQ(Leaves(PageLevel::k2M), 2);
  EXPECT_THAT(slot.TakeWritten(), ElementsAre(Gfn(7)));
}

TEST_F(DirtyTest, AGrantIsNoMoreThanALimitAllows) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  ASSERT_TRUE(
      mmu().ProtectRange(Frames(3, 4), {.read = true}, Never).status.ok());
  ASSERT_TRUE(mmu().GrantWrites(slot.range(), Never).status.ok());
  EXPECT_FALSE(slot.Grants(Gfn(3), true));
}

// Part of the run may be writable: it is unmapped, or the entries say so.
TEST_F(DirtyTest, AGrantThatFailsLeavesTheHostNoLooserThanTheEntries) {
  for (const bool unmap_fails : {false, true}) {
    FakeBacking& slot = AddSlot(unmap_fails ? 64 : 0, 64);
    if (!unmap_fails) Start();
    const uint64_t first = slot.range().start.value();
    ASSERT_TRUE(Map(first, first + 64).status.ok());
    host().set_hook([&](const HostCall& call) {
      if (call.kind == HostCallKind::kProtect) {
        return HostFailure{.error = ENOMEM, .applied_frames = 5};
      }
      const bool fails = call.kind == HostCallKind::kUnmap && unmap_fails;
      return HostFailure{.error = fails ? ENOMEM : 0};
    });
    EXPECT_FALSE(mmu().GrantWrites(slot.range(), Never).status.ok());
    host().ClearHook();
    EXPECT_EQ(Entry(first).IsPresent(), unmap_fails);
  }
  AllowStricterHost();
}

}  // namespace
}  // namespace tdp::testing
