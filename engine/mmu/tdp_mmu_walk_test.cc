#include <atomic>
#include <thread>
#include <vector>

#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

using ::testing::ElementsAre;

class WalkTest : public TdpMmuTest {
 protected:
  // All entries of a range, in pages of `page` entries.
  std::vector<WalkedEntry> WalkAll(GfnRange range, WalkOptions options,
                                   size_t page) {
    std::vector<WalkedEntry> all;
    options.resume_gfn = Gfn(0);
    Gfn next = range.start;
    int calls = 0;
    while (next < range.end) {
      std::vector<WalkedEntry> out;
      const Gfn before = next;
      next = mmu().WalkRange(range, options, page, out);
      EXPECT_GT(next, before) << "every call makes progress";
      if (next <= before || ++calls > 100'000) return all;
      options.resume_gfn = next;
      all.insert(all.end(), out.begin(), out.end());
    }
    return all;
  }
};

TEST_F(WalkTest, AFrameShowsItsPathFromTheRootToTheLeaf) {
  FakeBacking& slot = AddSlot(1000, 100);
  Start();
  ASSERT_EQ(mmu().WalkGfn(Gfn(1005)).size(), 1u) << "no table below the root";
  ASSERT_TRUE(MapWritable(1005, 1006).status.ok());
  const std::vector<WalkedEntry> path = mmu().WalkGfn(Gfn(1005));
  ASSERT_EQ(path.size(), 4u);
  EXPECT_EQ(path[0].level, PageLevel::k512G);
  EXPECT_EQ(path[0].gfn, Gfn(0));
  EXPECT_EQ(path[2].level, PageLevel::k2M);
  EXPECT_EQ(path[2].gfn, Gfn(512));
  EXPECT_TRUE(path[2].spte.IsTable(PageLevel::k2M));
  EXPECT_THAT(path[3].spte, IsWritableLeaf());
  EXPECT_EQ(path[3].gfn, Gfn(1005));
  EXPECT_EQ(path[3].spte.pfn(), slot.base_pfn() + 5);
  EXPECT_THAT(mmu().WalkGfn(Gfn(1006)).back().spte, IsNonPresent());
}

TEST_F(WalkTest, TheLastFrameOfTheRootHasAPath) {
  const uint64_t end = FramesOfRoot(PageLevel::k256T);
  AddSlot(end - 1, 1);
  Start(PageLevel::k256T);
  ASSERT_TRUE(Map(end - 1, end).status.ok());
  EXPECT_EQ(mmu().WalkGfn(Gfn(end - 1)).size(), 5u);
  EXPECT_EQ(mmu().WalkGfn(Gfn(0)).size(), 1u);
}

TEST_F(WalkTest, ARangeShowsParentsBeforeChildren) {
  AddSlot(0, 2 * kBlock);
  Start();
  ASSERT_TRUE(Map(5, 7).status.ok());
  ASSERT_TRUE(Map(kBlock, 2 * kBlock).status.ok());
  std::vector<std::pair<int, uint64_t>> seen;
  for (const WalkedEntry& entry :
       WalkAll(Frames(0, 2 * kBlock), {.present_only = true}, 100)) {
    seen.emplace_back(static_cast<int>(entry.level), entry.gfn.value());
  }
  EXPECT_THAT(seen, ElementsAre(std::pair(4, 0), std::pair(3, 0),
                                std::pair(2, 0), std::pair(1, 5),
                                std::pair(1, 6), std::pair(2, kBlock)));
}

TEST_F(WalkTest, OptionsSelectLevelsLeavesAndPresentEntries) {
  AddSlot(0, 4 * kBlock);
  Start();
  ASSERT_TRUE(Map(5, 7).status.ok());
  ASSERT_TRUE(Map(kBlock, 2 * kBlock).status.ok());
  const GfnRange range = Frames(0, 4 * kBlock);
  const auto leaves =
      WalkAll(range, {.leaves_only = true, .present_only = true}, 100);
  ASSERT_EQ(leaves.size(), 3u);
  EXPECT_TRUE(leaves[2].spte.IsHuge(PageLevel::k2M));
  for (const WalkedEntry& entry :
       WalkAll(range, {.min_level = PageLevel::k2M}, 100)) {
    EXPECT_GE(entry.level, PageLevel::k2M);
  }
  // One root entry, one of level 1G, four of level 2M, 512 of level 4K.
  EXPECT_EQ(WalkAll(range, {}, 10'000).size(), 1u + 1 + 4 + 512);
}

TEST_F(WalkTest, PagesOfAnySizeJoinToTheSameWalk) {
  AddSlot(0, 4 * kBlock);
  Start();
  ASSERT_TRUE(Map(5, 700).status.ok());
  ASSERT_TRUE(Map(2 * kBlock, 4 * kBlock).status.ok());
  for (const WalkOptions& options :
       {WalkOptions{}, WalkOptions{.leaves_only = true},
        WalkOptions{.present_only = true},
        WalkOptions{.leaves_only = true, .present_only = true}}) {
    const GfnRange range = Frames(3, 3 * kBlock + 5);
    const auto whole = WalkAll(range, options, 1'000'000);
    for (const size_t page : {1, 2, 7, 511, 512, 513}) {
      const auto paged = WalkAll(range, options, page);
      ASSERT_EQ(paged.size(), whole.size()) << page;
      for (size_t i = 0; i < whole.size(); ++i) {
        ASSERT_EQ(paged[i].gfn, whole[i].gfn);
        ASSERT_EQ(paged[i].level, whole[i].level);
        ASSERT_EQ(paged[i].spte, whole[i].spte);
      }
    }
  }
}

TEST_F(WalkTest, AWideSparseRangeIsWalkedInBoundedSteps) {
  constexpr uint64_t kBlocks = 300;
  AddSlot(0, kBlocks * kBlock);
  Start();
  for (uint64_t block = 0; block < kBlocks; ++block) {
    ASSERT_TRUE(Map(block * kBlock, block * kBlock + 1).status.ok());
  }
  std::vector<WalkedEntry> out;
  const WalkOptions options{.leaves_only = true, .present_only = true};
  const Gfn next = mmu().WalkRange(mmu().span(), options, 1'000'000, out);
  EXPECT_LT(next, mmu().span().end) << "a read section stays short";
  EXPECT_EQ(WalkAll(mmu().span(), options, 1'000'000).size(), kBlocks);
}

TEST_F(WalkTest, ARangeBeyondTheRootEndsAtOnce) {
  Start();
  std::vector<WalkedEntry> out;
  const GfnRange range = {mmu().span().end, Gfn(~uint64_t{0})};
  EXPECT_GE(mmu().WalkRange(range, {}, 10, out), mmu().span().end);
  EXPECT_TRUE(out.empty());
}

TEST_F(WalkTest, ManyFramesAreWalkedInTheOrderAsked) {
  AddSlot(0, 2 * kBlock);
  Start();
  ASSERT_TRUE(Map(kBlock, 2 * kBlock).status.ok());
  ASSERT_TRUE(Map(5, 6).status.ok());
  std::vector<uint64_t> gfns;
  for (uint64_t i = 0; i < 200; ++i) gfns.push_back((i * 37) % (2 * kBlock));
  gfns.push_back(mmu().span().end.value() - 1);
  size_t next = 0;
  mmu().WalkFrames(
      gfns, Prefetch::kYes, [&](size_t i, const WalkedEntry& entry) {
        EXPECT_EQ(i, next++);
        const WalkedEntry single = mmu().WalkGfn(Gfn(gfns[i])).back();
        EXPECT_EQ(entry.spte, single.spte);
        EXPECT_EQ(entry.level, single.level);
        EXPECT_EQ(entry.gfn, single.gfn);
      });
  EXPECT_EQ(next, gfns.size());
}

TEST_F(WalkTest, AFrozenEntryIsShownAsSuchAndNotWaitedFor) {
  AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Map(0, 64).status.ok());
  TdpMmuPeer::Owner owner(mmu(), Gfn(5));
  EXPECT_THAT(Entry(5), IsFrozenEntry());
  EXPECT_EQ(WalkAll(Frames(0, 64), {.present_only = true}, 1000).size(),
            3u + 63);
}

TEST_F(WalkTest, A1GLeafIsTheEndOfItsPath) {
  const uint64_t giant = FramesPerEntry(PageLevel::k1G);
  FakeBacking& slot = AddSlot(giant, giant);
  Start();
  InstallGiantLeaf(slot, Gfn(giant), /*writable=*/true);
  const std::vector<WalkedEntry> path = mmu().WalkGfn(Gfn(2 * giant - 1));
  ASSERT_EQ(path.size(), 2u);
  EXPECT_EQ(path[1].level, PageLevel::k1G);
  EXPECT_EQ(path[1].gfn, Gfn(giant));
  const auto leaves = WalkAll(Frames(giant + 5, 2 * giant),
                              {.leaves_only = true, .present_only = true}, 10);
  ASSERT_EQ(leaves.size(), 1u);
  EXPECT_EQ(leaves[0].gfn, Gfn(giant));
}

TEST_F(WalkTest, PathsStayConsistentWhileTablesComeAndGo) {
  AddSlot(0, 4 * kBlock);
  Start();
  std::atomic<bool> stop{false};
  std::vector<std::thread> walkers;
  for (int i = 0; i < 2; ++i) {
    walkers.emplace_back([&, i] {
      std::vector<WalkedEntry> out;
      while (!stop.load()) {
        for (uint64_t gfn = i; gfn < 4 * kBlock; gfn += 97) {
          const std::vector<WalkedEntry> path = mmu().WalkGfn(Gfn(gfn));
          for (size_t depth = 0; depth < path.size(); ++depth) {
            const WalkedEntry& entry = path[depth];
            ASSERT_EQ(static_cast<size_t>(entry.level), 4 - depth);
            ASSERT_EQ(entry.gfn, AlignDown(Gfn(gfn), entry.level));
            ASSERT_EQ(entry.spte.IsTable(entry.level), depth + 1 < path.size());
          }
        }
        out.clear();
        mmu().WalkRange(Frames(0, 4 * kBlock), {}, 3000, out);
        for (size_t k = 1; k < out.size(); ++k) {
          ASSERT_GE(out[k].gfn, out[k - 1].gfn);
        }
      }
    });
  }
  for (int turn = 0; turn < 60; ++turn) {
    ASSERT_TRUE(Map(0, 4 * kBlock).status.ok());
    if (turn % 3 == 0) ZapAll();
    ASSERT_TRUE(Zap(0, 4 * kBlock).status.ok());
    ASSERT_TRUE(Map(0, kBlock, {.max_level = PageLevel::k4K}).status.ok());
    ZapAll();
  }
  stop.store(true);
  for (std::thread& walker : walkers) walker.join();
}

}  // namespace
}  // namespace tdp::testing
