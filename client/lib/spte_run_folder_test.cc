#include "client/lib/spte_run_folder.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/lib/page_level.h"
#include "client/lib/spte_text.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;

v1::Spte Leaf(v1::PageLevel level, uint64_t gfn, uint64_t pfn,
              bool write = true) {
  v1::Spte spte;
  spte.set_level(level);
  spte.set_base_gfn(gfn);
  spte.set_present(true);
  spte.set_leaf(true);
  spte.set_pfn(pfn);
  spte.set_raw((pfn << 12) | (write ? 3 : 1));
  spte.mutable_access()->set_read(true);
  spte.mutable_access()->set_write(write);
  spte.set_accessed(true);
  return spte;
}

v1::Spte None(v1::PageLevel level, uint64_t gfn) {
  v1::Spte spte;
  spte.set_level(level);
  spte.set_base_gfn(gfn);
  spte.set_raw(uint64_t{1} << 63);
  return spte;
}

v1::Spte TableEntry(v1::PageLevel level, uint64_t gfn, uint64_t pfn) {
  v1::Spte spte = None(level, gfn);
  spte.set_present(true);
  spte.set_raw((pfn << 12) | 7);
  return spte;
}

v1::Spte Frozen(uint64_t gfn) {
  v1::Spte spte = None(v1::PAGE_LEVEL_4K, gfn);
  spte.set_frozen(true);
  return spte;
}

std::vector<std::string> Fold(const std::vector<v1::Spte>& sptes) {
  std::vector<std::string> runs;
  SpteRunFolder folder([&](const SpteRun& run) {
    runs.push_back(absl::StrCat(
        LevelText(run.first.level()), " ", StateText(run.first), " ",
        run.frames.start_gfn, "..", run.frames.end_gfn, " x", run.entry_count));
  });
  for (const v1::Spte& spte : sptes) folder.Add(spte);
  folder.Finish();
  folder.Finish();
  return runs;
}

TEST(SpteRunFolderTest, NoEntriesGiveNoRuns) {
  EXPECT_THAT(Fold({}), ElementsAre());
}

TEST(SpteRunFolderTest, ConsecutiveEqualLeavesAreOneRun) {
  EXPECT_THAT(
      Fold({Leaf(v1::PAGE_LEVEL_4K, 8, 100), Leaf(v1::PAGE_LEVEL_4K, 9, 101),
            Leaf(v1::PAGE_LEVEL_4K, 10, 102)}),
      ElementsAre("4K leaf 8..11 x3"));
  EXPECT_THAT(Fold({Leaf(v1::PAGE_LEVEL_2M, 0, 512),
                    Leaf(v1::PAGE_LEVEL_2M, 512, 1024)}),
              ElementsAre("2M leaf 0..1024 x2"));
}

TEST(SpteRunFolderTest, AnyDifferenceEndsARun) {
  const v1::Spte first = Leaf(v1::PAGE_LEVEL_4K, 8, 100);
  std::vector<v1::Spte> others(8, Leaf(v1::PAGE_LEVEL_4K, 9, 101));
  others[0] = Leaf(v1::PAGE_LEVEL_4K, 9, 200);
  others[1] = Leaf(v1::PAGE_LEVEL_4K, 10, 102);
  others[2].mutable_access()->set_write(false);
  others[3].set_accessed(false);
  others[4].set_dirty(true);
  others[5].set_host_writable(true);
  others[6].set_mmu_writable(true);
  others[7].set_raw(others[7].raw() | uint64_t{1} << 60);
  for (const v1::Spte& other : others) {
    EXPECT_EQ(Fold({first, other}).size(), 2u) << other.DebugString();
  }
}

TEST(SpteRunFolderTest, EmptyEntriesFoldWithinALevelOnly) {
  EXPECT_THAT(
      Fold({None(v1::PAGE_LEVEL_4K, 510), None(v1::PAGE_LEVEL_4K, 511),
            None(v1::PAGE_LEVEL_2M, 512), None(v1::PAGE_LEVEL_2M, 1024)}),
      ElementsAre("4K none 510..512 x2", "2M none 512..1536 x2"));
}

TEST(SpteRunFolderTest, ATableEndsTheRunOfItsNeighbours) {
  EXPECT_THAT(
      Fold({None(v1::PAGE_LEVEL_2M, 0), TableEntry(v1::PAGE_LEVEL_2M, 512, 7),
            Leaf(v1::PAGE_LEVEL_4K, 512, 700)}),
      ElementsAre("2M none 0..512 x1", "2M table 512..1024 x1",
                  "4K leaf 512..513 x1"));
}

TEST(SpteRunFolderTest, TablesFoldWhereverTheyPointTo) {
  EXPECT_THAT(Fold({TableEntry(v1::PAGE_LEVEL_2M, 0, 900),
                    TableEntry(v1::PAGE_LEVEL_2M, 512, 20)}),
              ElementsAre("2M table 0..1024 x2"));
}

TEST(SpteRunFolderTest, FrozenEntriesFoldWhateverTheirFieldsSay) {
  v1::Spte second = Frozen(2);
  second.set_raw(123);
  EXPECT_THAT(Fold({Frozen(1), second, None(v1::PAGE_LEVEL_4K, 3)}),
              ElementsAre("4K frozen 1..3 x2", "4K none 3..4 x1"));
}

TEST(SpteRunFolderTest, RunsCoverExactlyTheEntriesAndNeverTouchAlike) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<v1::Spte> sptes;
    for (uint64_t gfn = 0; gfn < 64; ++gfn) {
      if (random() % 8 == 0) continue;
      sptes.push_back(random() % 3 == 0
                          ? None(v1::PAGE_LEVEL_4K, gfn)
                          : Leaf(v1::PAGE_LEVEL_4K, gfn,
                                 gfn + (random() % 6 == 0 ? 5 : 0),
                                 random() % 5 != 0));
    }
    int64_t entries = 0;
    uint64_t frames = 0;
    uint64_t last_end = 0;
    SpteRunFolder folder([&](const SpteRun& run) {
      EXPECT_GE(run.frames.start_gfn, last_end);
      last_end = run.frames.end_gfn;
      entries += run.entry_count;
      frames += run.frames.end_gfn - run.frames.start_gfn;
    });
    for (const v1::Spte& spte : sptes) folder.Add(spte);
    folder.Finish();
    EXPECT_EQ(entries, static_cast<int64_t>(sptes.size()));
    EXPECT_EQ(frames, sptes.size());
  }
}

TEST(SpteTextTest, EntriesAreDescribedByWhatTheyAre) {
  EXPECT_EQ(StateText(None(v1::PAGE_LEVEL_4K, 0)), "none");
  EXPECT_EQ(StateText(TableEntry(v1::PAGE_LEVEL_2M, 0, 1)), "table");
  EXPECT_EQ(StateText(Frozen(0)), "frozen");
  v1::Spte leaf = Leaf(v1::PAGE_LEVEL_4K, 0, 0x40100, false);
  EXPECT_EQ(StateText(leaf), "leaf");
  EXPECT_EQ(LeafAccessText(leaf), "r-");
  EXPECT_EQ(LeafPfnText(leaf), "0x40100");
  leaf.set_dirty(true);
  leaf.set_host_writable(true);
  leaf.set_mmu_writable(true);
  EXPECT_EQ(LeafBitsText(leaf), "A D HW MW");
}

TEST(SpteTextTest, OnlyLeavesHaveAccessAndBackingFrames) {
  for (const v1::Spte& spte :
       {None(v1::PAGE_LEVEL_4K, 0), TableEntry(v1::PAGE_LEVEL_2M, 0, 1),
        Frozen(0)}) {
    EXPECT_EQ(LeafAccessText(spte), "");
    EXPECT_EQ(LeafPfnText(spte), "");
    EXPECT_EQ(LeafBitsText(spte), "");
  }
}

TEST(SpteTextTest, EveryLevelCoversItsFrames) {
  EXPECT_EQ(FramesPerEntry(v1::PAGE_LEVEL_4K), 1u);
  EXPECT_EQ(FramesPerEntry(v1::PAGE_LEVEL_2M), 512u);
  EXPECT_EQ(FramesPerEntry(v1::PAGE_LEVEL_256T), uint64_t{1} << 36);
  EXPECT_EQ(FramesPerEntry(static_cast<v1::PageLevel>(9)), 0u);
  v1::Spte last = None(v1::PAGE_LEVEL_2M, ~uint64_t{0} - 10);
  EXPECT_EQ(FramesOf(last).end_gfn, ~uint64_t{0});
}

}  // namespace
}  // namespace tdp::client
