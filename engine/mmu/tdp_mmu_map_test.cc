#include <cerrno>

#include "engine/base/errors.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

using MapRangeTest = TdpMmuTest;

TEST_F(MapRangeTest, MapsEveryFrameOfTheRangeAndNoOther) {
  FakeBacking& slot = AddSlot(0, 1024);
  Start();
  const MmuProgress progress = MapWritable(10, 20);
  ASSERT_TRUE(progress.status.ok()) << progress.status;
  EXPECT_EQ(progress.next_gfn, Gfn(20));
  EXPECT_EQ(progress.changed_frames, 10);
  EXPECT_EQ(Leaves(PageLevel::k4K), 10);
  EXPECT_EQ(host().call_count(), 1) << "one run, one host call";
  for (uint64_t gfn = 10; gfn < 20; ++gfn) {
    EXPECT_THAT(Entry(gfn), IsWritableLeaf());
    EXPECT_TRUE(slot.Grants(Gfn(gfn), true));
  }
  EXPECT_THAT(Entry(9), IsNonPresent());
  EXPECT_THAT(Entry(20), IsNonPresent());
}

TEST_F(MapRangeTest, WithoutWriteTheFirstWriteIsLeftToAFault) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Map(0, 64).status.ok());
  EXPECT_THAT(Entry(5), IsReadOnlyLeaf());
  EXPECT_TRUE(Entry(5).IsMmuWritable());
  EXPECT_TRUE(slot.Grants(Gfn(5), false));
  EXPECT_FALSE(slot.Grants(Gfn(5), true));
}

TEST_F(MapRangeTest, MappingTwiceChangesNothing) {
  AddSlot(0, 1024);
  Start();
  ASSERT_EQ(MapWritable(0, 1024).changed_frames, 1024);
  const int64_t calls = host().call_count();
  const MmuProgress again = MapWritable(0, 1024);
  EXPECT_TRUE(again.status.ok());
  EXPECT_EQ(again.changed_frames, 0);
  EXPECT_EQ(again.next_gfn, Gfn(1024));
  EXPECT_EQ(host().call_count(), calls);
}

TEST_F(MapRangeTest, WriteGrantsItWhereFramesAreMappedReadOnly) {
  AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Map(0, 32).status.ok());
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  for (uint64_t gfn = 0; gfn < 64; ++gfn) {
    EXPECT_THAT(Entry(gfn), IsWritableLeaf()) << gfn;
  }
  EXPECT_EQ(Leaves(PageLevel::k4K), 64);
}

TEST_F(MapRangeTest, AReadOnlyMemslotIsNeverMappedWritable) {
  FakeBacking& slot = AddSlot(0, 64, PageLevel::k4K, /*writable=*/false);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  EXPECT_THAT(Entry(0), IsReadOnlyLeaf());
  EXPECT_FALSE(Entry(0).IsMmuWritable());
  EXPECT_FALSE(Entry(0).IsHostWritable());
  EXPECT_FALSE(slot.Grants(Gfn(0), true));
}

TEST_F(MapRangeTest, WholeBlocksBecomeHugeLeavesAndTheRestSmallOnes) {
  AddSlot(0, 4 * kBlock);
  Start();
  const MmuProgress progress = MapWritable(kBlock - 1, 3 * kBlock + 1);
  ASSERT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.changed_frames, static_cast<int64_t>(2 * kBlock + 2));
  EXPECT_EQ(Leaves(PageLevel::k2M), 2);
  EXPECT_EQ(Leaves(PageLevel::k4K), 2);
  EXPECT_EQ(Last(kBlock).level, PageLevel::k2M);
  EXPECT_EQ(Last(kBlock - 1).level, PageLevel::k4K);
}

TEST_F(MapRangeTest, TheLargestLeafIsLimitedByMaxLevel) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(
      Map(0, kBlock, {.max_level = PageLevel::k4K, .write = true}).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 0);
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kBlock));
}

TEST_F(MapRangeTest, AMemslotThatIsNotAlignedHasNoLeafAcrossItsEdges) {
  AddSlot(100, 3 * kBlock);
  Start();
  ASSERT_TRUE(MapWritable(100, 100 + 3 * kBlock).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 2);
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kBlock));
  EXPECT_THAT(Entry(99), IsNonPresent());
  EXPECT_THAT(Entry(100 + 3 * kBlock), IsNonPresent());
}

TEST_F(MapRangeTest, SeveralMemslotsInOneBlockAreMappedOneByOne) {
  AddSlot(0, 100);
  AddSlot(100, 200, PageLevel::k4K, /*writable=*/false);
  AddSlot(300, kBlock);
  Start();
  ASSERT_TRUE(MapWritable(0, 300 + kBlock).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(300 + kBlock));
  EXPECT_THAT(Entry(99), IsWritableLeaf());
  EXPECT_THAT(Entry(100), IsReadOnlyLeaf());
  EXPECT_THAT(Entry(300), IsWritableLeaf());
}

TEST_F(MapRangeTest, TheFirstAndTheLastFrameOfTheRootCanBeMapped) {
  for (const PageLevel level : {PageLevel::k512G, PageLevel::k256T}) {
    FakeBackingTable backings;
    const uint64_t end = FramesOfRoot(level);
    FakeBacking& first = backings.Add({.range = Frames(0, 1)});
    FakeBacking& last = backings.Add({.range = Frames(end - 1, end)});
    auto mmu = TdpMmu::Create(rcu_, backings, level, kTestLimitBytes);
    ASSERT_TRUE(mmu.ok());
    for (const GfnRange range : {first.range(), last.range()}) {
      const MmuProgress progress =
          (*mmu)->MapRange(range, {.write = true}, [] { return false; });
      EXPECT_TRUE(progress.status.ok()) << progress.status;
      EXPECT_EQ(progress.next_gfn, range.end);
      EXPECT_EQ((*mmu)->WalkGfn(range.start).size(),
                static_cast<size_t>(level));
    }
    EXPECT_TRUE(last.Grants(Gfn(end - 1), true));
    EXPECT_EQ(
        (*mmu)->ZapRange((*mmu)->span(), [] { return false; }).changed_frames,
        2);
  }
}

TEST_F(MapRangeTest, LevelEdgesAreNoObstacle) {
  const uint64_t giant = FramesPerEntry(PageLevel::k1G);
  AddSlot(giant - 2, 4);
  AddSlot(510, 4);
  Start();
  ASSERT_TRUE(MapWritable(giant - 2, giant + 2).status.ok());
  ASSERT_TRUE(MapWritable(510, 514).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k4K), 8);
}

TEST_F(MapRangeTest, AnUnbackedFrameIsFoundBeforeAnythingChanges) {
  AddSlot(0, 100);
  AddSlot(101, 100);
  Start();
  const MmuProgress progress = MapWritable(0, 150);
  EXPECT_EQ(ReasonOf(progress.status), ErrorReason::kGfnNotBacked);
  EXPECT_EQ(progress.next_gfn, Gfn(0));
  EXPECT_EQ(progress.changed_frames, 0);
  EXPECT_EQ(host().call_count(), 0);
  EXPECT_EQ(ReasonOf(MapWritable(200, 202).status), ErrorReason::kGfnNotBacked);
}

TEST_F(MapRangeTest, AChangingMemslotIsAConflict) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  slot.CloseForMap();
  EXPECT_EQ(ReasonOf(MapWritable(0, 64).status),
            ErrorReason::kOperationConflict);
  slot.CloseForUnmap();
  EXPECT_EQ(ReasonOf(MapWritable(0, 64).status),
            ErrorReason::kOperationConflict);
  slot.ReopenForUnmap();
  slot.ReopenForMap();
  EXPECT_TRUE(MapWritable(0, 64).status.ok());
}

TEST_F(MapRangeTest, AStopEndsItBetweenBlocksAndItCanGoOn) {
  AddSlot(0, 4 * kBlock);
  Start();
  MmuProgress progress =
      mmu().MapRange(Frames(0, 4 * kBlock), {}, [] { return true; });
  EXPECT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.next_gfn, Gfn(kBlock));
  progress = Map(progress.next_gfn.value(), 4 * kBlock);
  EXPECT_EQ(progress.next_gfn, Gfn(4 * kBlock));
  EXPECT_EQ(Leaves(PageLevel::k2M), 4);
}

TEST_F(MapRangeTest, AnEmptyTableGivesWayToAHugeLeaf) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(Map(3, 4).status.ok());
  const int64_t tables = mmu().Read(MmuCounter::kLinkedTables);
  ASSERT_TRUE(Zap(3, 4).status.ok());
  EXPECT_EQ(mmu().Read(MmuCounter::kLinkedTables), tables) << "tables stay";
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 1);
  EXPECT_EQ(mmu().Read(MmuCounter::kLinkedTables), tables - 1);
  rcu_.Barrier();
  EXPECT_EQ(mmu().retired_table_count(), 0);
}

TEST_F(MapRangeTest, AReplacedTableIsFrozenForWhoeverIsStillInIt) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(Map(3, 4).status.ok());
  ASSERT_TRUE(Zap(3, 4).status.ok());
  ExpectTableFrozenBy(3,
                      [&] { EXPECT_TRUE(MapWritable(0, kBlock).status.ok()); });
  EXPECT_EQ(Leaves(PageLevel::k2M), 1);
}

TEST_F(MapRangeTest, AnOwnerInAnEmptyTableKeepsTheTable) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(Map(3, 4).status.ok());
  ASSERT_TRUE(Zap(3, 4).status.ok());
  {
    TdpMmuPeer::Owner owner(mmu(), Gfn(511));
    const MmuProgress progress = mmu().MapRange(
        Frames(0, kBlock - 1), {.write = true}, [] { return false; });
    EXPECT_TRUE(progress.status.ok());
  }
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kBlock - 1));
}

TEST_F(MapRangeTest, ATableInUseKeepsTheBlockSmall) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(Map(3, 4).status.ok());
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 0);
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kBlock));
}

TEST_F(MapRangeTest, TheTableLimitIsAnErrorAndLeavesWhatIsDone) {
  AddSlot(0, 64 * kBlock);
  Start(PageLevel::k512G, 8 * static_cast<int64_t>(kPageSize));
  const MmuProgress progress =
      Map(0, 64 * kBlock, {.max_level = PageLevel::k4K});
  EXPECT_EQ(ReasonOf(progress.status), ErrorReason::kPageTableLimit);
  EXPECT_GT(progress.next_gfn, Gfn(0));
  EXPECT_EQ(progress.changed_frames,
            static_cast<int64_t>(progress.next_gfn.value()));
  EXPECT_LE(mmu().page_table_bytes(), 8 * static_cast<int64_t>(kPageSize));
  ZapAll();
  EXPECT_TRUE(Map(0, kBlock).status.ok()) << "a zap-all makes room";
}

TEST_F(MapRangeTest, ABadSourceFailsAndTheFramesBeforeAreDone) {
  FakeBacking& slot = AddSlot(0, 4 * kBlock);
  Start();
  slot.FailContentOf(Gfn(kBlock + 7),
                     MakeError(ErrorReason::kSourceFailed, "bad sector"));
  const MmuProgress progress = MapWritable(0, 4 * kBlock);
  EXPECT_EQ(ReasonOf(progress.status), ErrorReason::kSourceFailed);
  EXPECT_EQ(progress.next_gfn, Gfn(kBlock));
  slot.ClearContentFailure();
  EXPECT_TRUE(MapWritable(kBlock, 4 * kBlock).status.ok());
}

TEST_F(MapRangeTest, ContentThatIsLostOnTheWayIsLoadedAgain) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  host().set_hook([&](const HostCall& call) {
    if (call.number <= 3) slot.DiscardContent({call.run.start + 1, Gfn(64)});
    return HostFailure{};
  });
  const MmuProgress progress = MapWritable(0, 64);
  EXPECT_TRUE(progress.status.ok()) << progress.status;
  EXPECT_EQ(progress.changed_frames, 64);
  EXPECT_EQ(Leaves(PageLevel::k4K), 64);
}

TEST_F(MapRangeTest, ContentThatIsLostForEverIsAnErrorAndEnds) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  host().set_hook([&](const HostCall& call) {
    slot.DiscardContent(call.run);
    return HostFailure{};
  });
  EXPECT_FALSE(MapWritable(0, 64).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k4K), 0);
}

// A host call that fails, at each position of a sequence that makes every kind
// of them, with nothing, a part or all of it done, admitted or not.
struct FailureCase {
  int error;
  uint64_t applied_frames;
  bool reported;
};

class HostFailureTest : public TdpMmuTest,
                        public ::testing::WithParamInterface<FailureCase> {
 protected:
  void RunSequence() {
    Map(0, kBlock);                   // a huge leaf, read-only
    Map(kBlock, kBlock + 100);        // small ones
    MapWritable(0, kBlock);           // Protect of a huge leaf
    MapWritable(kBlock, 2 * kBlock);  // Protect and Map of runs
    Fault(2 * kBlock + 5, false);
    Fault(5, true);
    Zap(0, 1);
    Zap(kBlock + 50, 2 * kBlock);
    Fault(kBlock + 60, true);
  }
};

TEST_P(HostFailureTest, LeavesTheHostEqualOrStricterAtEveryPosition) {
  const FailureCase failure = GetParam();
  AddSlot(0, 4 * kBlock);
  Start();
  AllowStricterHost();
  int64_t positions = 0;
  for (int64_t n = 1; n <= 40; ++n) {
    const int64_t before = host().call_count();
    host().FailNth(n, {failure.error, failure.applied_frames,
                       failure.reported ? failure.applied_frames : 0});
    RunSequence();
    positions = host().call_count() - before;
    host().ClearHook();
    ExpectConsistent(HostMustBe::kEqualOrStricter);
    for (const AuditFinding& finding : Audit()) {
      EXPECT_FALSE(finding.host_grants_more) << finding.gfn.value();
    }
    // Whatever failed can be had afterwards.
    ASSERT_TRUE(MapWritable(0, 4 * kBlock).status.ok());
    for (uint64_t gfn = 0; gfn < 4 * kBlock; gfn += 17) {
      ASSERT_NE(Fault(gfn, true), FaultResult::kFailed);
    }
    ZapAll();
    ExpectConsistent(HostMustBe::kEqual);
    if (n > positions) break;
  }
  EXPECT_GT(positions, 5);
}

INSTANTIATE_TEST_SUITE_P(Errors, HostFailureTest,
                         ::testing::Values(FailureCase{EAGAIN, 0, false},
                                           FailureCase{EAGAIN, 10, true},
                                           FailureCase{EAGAIN, 10, false},
                                           FailureCase{EAGAIN, 512, false},
                                           FailureCase{EFAULT, 0, false},
                                           FailureCase{EFAULT, 1, true},
                                           FailureCase{ENOMEM, 0, false},
                                           FailureCase{ENOMEM, 511, true},
                                           FailureCase{ENOENT, 0, false},
                                           FailureCase{ENOENT, 99, true}));

TEST_F(MapRangeTest, AProtectionThatCanNeitherBeGrantedNorTakenIsGranted) {
  AddSlot(0, 64);
  Start();
  AllowStricterHost();
  ASSERT_TRUE(Map(0, 64).status.ok());
  // Half of the run becomes writable without being admitted, and the host
  // refuses to unmap it: the entries must not say less than the host does.
  host().set_hook([](const HostCall&) {
    return HostFailure{.error = EAGAIN, .applied_frames = 32};
  });
  EXPECT_FALSE(MapWritable(0, 64).status.ok());
  EXPECT_EQ(Fault(0, true), FaultResult::kFailed);
  host().ClearHook();
  ExpectConsistent(HostMustBe::kEqualOrStricter);
}

TEST_F(MapRangeTest, OutOfMemoryHasAReasonOfItsOwn) {
  AddSlot(0, 64);
  Start();
  host().FailNth(1, {.error = ENOMEM});
  EXPECT_EQ(ReasonOf(Map(0, 64).status), ErrorReason::kHostMemoryExhausted);
}

TEST_F(MapRangeTest, A1GLeafIsSplitBeforeItsWritesAreGranted) {
  const uint64_t giant = FramesPerEntry(PageLevel::k1G);
  FakeBacking& slot = AddSlot(0, giant);
  Start();
  InstallGiantLeaf(slot, Gfn(0), /*writable=*/false);
  EXPECT_EQ(Map(5, 6).changed_frames, 0) << "reads are granted already";
  EXPECT_EQ(Leaves(PageLevel::k1G), 1);
  ASSERT_TRUE(MapWritable(5, 6).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k1G), 0);
  EXPECT_EQ(Leaves(PageLevel::k2M), 512);
  EXPECT_THAT(Entry(0), IsWritableLeaf());
  EXPECT_THAT(Entry(kBlock), IsReadOnlyLeaf());
}

}  // namespace
}  // namespace tdp::testing
