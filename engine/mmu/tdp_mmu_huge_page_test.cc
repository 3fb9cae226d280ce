// Splitting and collapsing: every frame stays mapped, with the same access.

#include <cerrno>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/testing/event.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

class HugePageTest : public TdpMmuTest {
 protected:
  static constexpr uint64_t kGiant = FramesPerEntry(PageLevel::k1G);

  MmuProgress Split(uint64_t start, uint64_t end,
                    PageLevel target = PageLevel::k4K) {
    return mmu().SplitHugePages(Frames(start, end), target,
                                [] { return false; });
  }
  MmuProgress Collapse(uint64_t start, uint64_t end,
                       PageLevel max_level = PageLevel::k2M) {
    return mmu().CollapseHugePages(Frames(start, end), max_level,
                                   [] { return false; });
  }
  MmuProgress MapSmall(uint64_t start, uint64_t end, bool write) {
    return Map(start, end, {.max_level = PageLevel::k4K, .write = write});
  }
};

using SplitHugePagesTest = HugePageTest;
using CollapseHugePagesTest = HugePageTest;

TEST_F(SplitHugePagesTest, KeepsEveryTranslationWithoutAHostCall) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  const Spte huge = Entry(0);
  const int64_t calls = host().call_count();
  const MmuProgress progress = Split(0, kBlock);
  EXPECT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.changed_entries, 1);
  EXPECT_EQ(progress.next_gfn, Gfn(kBlock));
  EXPECT_EQ(host().call_count(), calls);
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kBlock));
  EXPECT_EQ(Leaves(PageLevel::k2M), 1);
  for (uint64_t gfn : {uint64_t{0}, uint64_t{1}, kBlock - 1}) {
    EXPECT_EQ(Last(gfn).level, PageLevel::k4K);
    EXPECT_EQ(Entry(gfn).pfn(), huge.pfn() + gfn);
    EXPECT_THAT(Entry(gfn), IsWritableLeaf());
    EXPECT_TRUE(slot.Grants(Gfn(gfn), true));
  }
  EXPECT_EQ(Split(0, kBlock).changed_entries, 0) << "idempotent";
}

TEST_F(SplitHugePagesTest, AGiantLeafGoesDownToTheLevelAsked) {
  FakeBacking& slot = AddSlot(0, kGiant, PageLevel::k2M);
  Start();
  InstallGiantLeaf(slot, Gfn(0), /*writable=*/true);
  EXPECT_EQ(Split(0, kGiant, PageLevel::k2M).changed_entries, 1);
  EXPECT_EQ(Leaves(PageLevel::k2M), 512);
  EXPECT_EQ(Split(0, kGiant, PageLevel::k2M).changed_entries, 0);
  EXPECT_EQ(Split(3 * kBlock, 5 * kBlock + 1).changed_entries, 3);
  EXPECT_EQ(Leaves(PageLevel::k2M), 509);
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(3 * kBlock));
}

TEST_F(SplitHugePagesTest, TheTableLimitEndsItAndKeepsWhatIsLeftHuge) {
  AddSlot(0, 8 * kBlock, PageLevel::k2M);
  Start(PageLevel::k512G, 5 * static_cast<int64_t>(kPageSize));
  ASSERT_TRUE(MapWritable(0, 8 * kBlock).status.ok());
  const MmuProgress progress = Split(0, 8 * kBlock);
  EXPECT_EQ(ReasonOf(progress.status), ErrorReason::kPageTableLimit);
  EXPECT_EQ(progress.next_gfn, Gfn(2 * kBlock));
  EXPECT_EQ(progress.changed_entries, 2);
  EXPECT_EQ(Leaves(PageLevel::k2M), 6);
  EXPECT_TRUE(Audit().empty());
}

TEST_F(SplitHugePagesTest, StopsBetweenLeavesAndMakesProgress) {
  AddSlot(0, 4 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, 4 * kBlock).status.ok());
  Gfn next(0);
  int calls = 0;
  while (next < Gfn(4 * kBlock)) {
    const MmuProgress progress = mmu().SplitHugePages(
        {next, Gfn(4 * kBlock)}, PageLevel::k4K, [] { return true; });
    ASSERT_GT(progress.next_gfn, next);
    next = progress.next_gfn;
    ASSERT_LT(++calls, 100);
  }
  EXPECT_EQ(Leaves(PageLevel::k2M), 0);
}

TEST_F(SplitHugePagesTest, WaitsForAnOwnerAndSplitsWhatItLeaves) {
  AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  auto owner = std::make_unique<TdpMmuPeer::Owner>(mmu(), Gfn(0));
  std::thread splitter([&] { EXPECT_EQ(Split(0, kBlock).changed_entries, 1); });
  std::this_thread::yield();
  owner.reset();
  splitter.join();
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kBlock));
}

TEST_F(CollapseHugePagesTest, AFullTableBecomesALeafWithoutAHostCall) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock);
  Start();
  ASSERT_TRUE(MapSmall(0, 2 * kBlock, true).status.ok());
  const int64_t calls = host().call_count();
  const MmuProgress progress = Collapse(0, 2 * kBlock);
  EXPECT_EQ(progress.changed_entries, 2);
  EXPECT_EQ(progress.next_gfn, Gfn(2 * kBlock));
  EXPECT_EQ(host().call_count(), calls);
  EXPECT_EQ(Leaves(PageLevel::k4K), 0);
  EXPECT_EQ(Leaves(PageLevel::k2M), 2);
  EXPECT_EQ(Last(5).level, PageLevel::k2M);
  EXPECT_THAT(Entry(5), IsWritableLeaf());
  EXPECT_TRUE(slot.Grants(Gfn(5), true));
  EXPECT_TRUE(Audit().empty());
  EXPECT_EQ(Collapse(0, 2 * kBlock).changed_entries, 0) << "idempotent";
}

TEST_F(CollapseHugePagesTest, UndoesASplit) {
  AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  const Spte before = Entry(0);
  ASSERT_EQ(Split(0, kBlock).changed_entries, 1);
  ASSERT_EQ(Collapse(0, kBlock).changed_entries, 1);
  EXPECT_EQ(Entry(0), before);
}

TEST_F(CollapseHugePagesTest, TheOldTableIsFrozenForGoodAndRetired) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(MapSmall(0, kBlock, true).status.ok());
  ExpectTableFrozenBy(
      5, [&] { EXPECT_EQ(Collapse(0, kBlock).changed_entries, 1); });
  rcu_.Barrier();
  EXPECT_EQ(mmu().Read(MmuCounter::kLinkedTables), 3);
  EXPECT_EQ(mmu().retired_table_count(), 0);
}

TEST_F(CollapseHugePagesTest, WhatDoesNotFitIsLeftAsItIs) {
  AddSlot(0, 4 * kBlock + 8);
  Start();
  ASSERT_TRUE(MapSmall(0, 4 * kBlock, true).status.ok());
  ASSERT_TRUE(Zap(7, 8).status.ok());  // a hole in block 0
  ASSERT_TRUE(mmu()
                  .WriteProtectRange(Frames(kBlock + 9, kBlock + 10),
                                     PageLevel::k4K, [] { return false; })
                  .status.ok());  // unequal access in block 1
  ASSERT_TRUE(MapSmall(4 * kBlock, 4 * kBlock + 8, true).status.ok());
  // Block 2 is whole; block 3 is not all in the range; block 4 is not backed.
  EXPECT_EQ(Collapse(0, 4 * kBlock - 1).changed_entries, 1);
  EXPECT_EQ(Last(2 * kBlock).level, PageLevel::k2M);
  EXPECT_EQ(Leaves(PageLevel::k2M), 1);
  EXPECT_EQ(Collapse(3 * kBlock, 5 * kBlock).changed_entries, 1);
}

TEST_F(CollapseHugePagesTest, TwoMemslotsDoNotMakeOneLeaf) {
  AddSlot(0, kBlock / 2);
  AddSlot(kBlock / 2, kBlock / 2);
  Start();
  ASSERT_TRUE(MapSmall(0, kBlock, true).status.ok());
  EXPECT_EQ(Collapse(0, kBlock).changed_entries, 0);
}

TEST_F(CollapseHugePagesTest, AccessedAndDirtyAreOred) {
  FakeBacking& slot = AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(MapSmall(0, kBlock, true).status.ok());
  ASSERT_TRUE(mmu()
                  .AgeRange(
                      Frames(0, kBlock - 1), false, [] { return false; },
                      [](GfnRange) {})
                  .status.ok());
  ASSERT_EQ(Collapse(0, kBlock).changed_entries, 1);
  EXPECT_TRUE(Entry(0).IsAccessed());
  EXPECT_FALSE(slot.At(Gfn(0)).present) << "the host may be stricter";
  EXPECT_EQ(Fault(0, true), FaultResult::kSpurious);
  EXPECT_TRUE(slot.Grants(Gfn(0), true));
  AllowStricterHost();
}

TEST_F(CollapseHugePagesTest, AGiantLeafComesFromWholeBlocksWhenAskedFor) {
  AddSlot(0, 2 * kGiant, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kGiant).status.ok());
  EXPECT_EQ(Collapse(0, 2 * kGiant).changed_entries, 0);
  EXPECT_EQ(Collapse(0, 2 * kGiant - 1, PageLevel::k1G).changed_entries, 1);
  EXPECT_EQ(Leaves(PageLevel::k1G), 1);
  EXPECT_EQ(Last(5).level, PageLevel::k1G);
  EXPECT_EQ(Fault(5, true), FaultResult::kSpurious);
}

TEST_F(CollapseHugePagesTest, ZappingAGiantLeafWorksAtTheTableLimit) {
  AddSlot(0, kGiant, PageLevel::k2M);
  Start(PageLevel::k512G, 8 * static_cast<int64_t>(kPageSize));
  ASSERT_TRUE(MapWritable(0, kGiant).status.ok());
  ASSERT_EQ(Collapse(0, kGiant, PageLevel::k1G).changed_entries, 1);
  rcu_.Barrier();
  // Others take what is left, and what the collapse gave back.
  PageTablePool& pool = TdpMmuPeer::Pool(mmu());
  std::vector<PageTable*> taken(1);
  while (pool.Allocate(&taken.back()).ok()) taken.push_back(nullptr);
  taken.pop_back();
  EXPECT_EQ(Zap(0, 1).changed_frames, static_cast<int64_t>(kBlock));
  EXPECT_EQ(Leaves(PageLevel::k2M), 511);
  for (PageTable* table : taken) pool.Free(table);
}

TEST_F(CollapseHugePagesTest, BacksOffWhileAChildHasAnOwner) {
  FakeBacking& slot = AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(MapSmall(0, kBlock, true).status.ok());
  {
    TdpMmuPeer::Owner owner(mmu(), Gfn(kBlock - 1));
    EXPECT_EQ(Collapse(0, kBlock).changed_entries, 0);
  }
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kBlock));
  EXPECT_TRUE(slot.Grants(Gfn(0), true));
  EXPECT_EQ(Collapse(0, kBlock).changed_entries, 1);
}

TEST_F(CollapseHugePagesTest, RacesWithFaultsZapsAndSplitsKeepTheOneRule) {
  constexpr int kTurns = 300;
  AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  SlowHost();
  std::atomic<bool> stop = false;
  std::atomic<int> turns = 0;
  std::thread faults([&] {
    for (uint64_t i = 0; !stop; ++i) (void)Fault(i * 97 % kBlock, i % 2 == 0);
  });
  std::thread others([&] {
    for (uint64_t i = 0; !stop; ++i) {
      (void)MapSmall(0, kBlock, true);
      (void)Split(0, kBlock);
      (void)mmu().WriteProtectRange(Frames(i % kBlock, kBlock), PageLevel::k4K,
                                    [] { return false; });
      if (i % 8 == 0) (void)Zap(i % kBlock, i % kBlock + 1);
      ++turns;
    }
  });
  while (turns < kTurns) {
    (void)Collapse(0, kBlock);
    std::this_thread::yield();
  }
  stop = true;
  faults.join();
  others.join();
}

}  // namespace
}  // namespace tdp::testing
