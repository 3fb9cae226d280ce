#include "client/lib/heatmap.h"

#include <string>

#include "client/testing/bitmaps.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

constexpr uint64_t kFramesPer1G = 1 << 18;

struct Bits {
  bool accessed = false;
  bool dirty = false;
};

v1::Spte Leaf(v1::PageLevel level, uint64_t base_gfn, Bits bits = {}) {
  v1::Spte spte;
  spte.set_level(level);
  spte.set_base_gfn(base_gfn);
  spte.set_present(true);
  spte.set_leaf(true);
  spte.set_accessed(bits.accessed);
  spte.set_dirty(bits.dirty);
  return spte;
}

void Add(const v1::Spte& spte, uint64_t next_gfn, Heatmap& heatmap) {
  v1::WalkRangeResponse batch;
  *batch.add_sptes() = spte;
  batch.set_next_gfn(next_gfn);
  heatmap.AddWalk(batch);
}

void Add4K(uint64_t gfn, Bits bits, Heatmap& heatmap) {
  Add(Leaf(v1::PAGE_LEVEL_4K, gfn, bits), gfn + 1, heatmap);
}

// One character for the state of each cell: "D" where all frames have it, "d"
// where some have.
std::string States(const Heatmap& heatmap) {
  std::string states;
  for (const HeatCell& cell : heatmap.cells()) {
    const int state = static_cast<int>(heatmap.StateOf(cell));
    states += (heatmap.IsWhole(cell) ? "?.MHYD" : "?.mhyd")[state];
  }
  return states;
}

TEST(HeatmapTest, CellsBeginAtTheRangeAndTheLastMayBeSmaller) {
  const Heatmap heatmap({5, 16}, 4, DirtySource::kDirtyBits);
  ASSERT_EQ(heatmap.cells().size(), 3u);
  EXPECT_EQ(heatmap.cells()[0].frames, (FrameRange{5, 9}));
  EXPECT_EQ(heatmap.cells()[1].frames, (FrameRange{9, 13}));
  EXPECT_EQ(heatmap.cells()[2].frames, (FrameRange{13, 16}));
}

TEST(HeatmapTest, TheMostTellingStateOfACellCounts) {
  Heatmap heatmap({0, 2048}, 512, DirtySource::kDirtyBits);
  Add4K(0, {}, heatmap);
  Add4K(1, {.dirty = true}, heatmap);
  Add4K(2, {.accessed = true}, heatmap);
  Add4K(512, {.accessed = true}, heatmap);
  Add4K(513, {}, heatmap);
  Add(Leaf(v1::PAGE_LEVEL_2M, 1024), 1536, heatmap);
  Add4K(1536, {}, heatmap);
  EXPECT_EQ(States(heatmap), "dyHm");
  EXPECT_EQ(heatmap.cells()[0].mapped_count, 3);
  EXPECT_EQ(heatmap.cells()[0].young_count, 1);
  EXPECT_EQ(heatmap.cells()[0].dirty_count, 1);
  EXPECT_EQ(heatmap.cells()[0].huge_count, 0);
  EXPECT_EQ(heatmap.cells()[2].huge_count, 512);
}

TEST(HeatmapTest, EveryStateIsWholeWhenAllFramesHaveIt) {
  Heatmap heatmap({0, 8}, 2, DirtySource::kDirtyBits);
  for (const uint64_t gfn : {0, 1}) Add4K(gfn, {}, heatmap);
  for (const uint64_t gfn : {2, 3}) Add4K(gfn, {.accessed = true}, heatmap);
  for (const uint64_t gfn : {4, 5}) {
    Add4K(gfn, {.accessed = true, .dirty = true}, heatmap);
  }
  heatmap.EndWalk();
  EXPECT_EQ(States(heatmap), "MYD.");
}

TEST(HeatmapTest, FramesAtTheEdgesOfCellsGoToTheRightOne) {
  Heatmap heatmap({10, 18}, 4, DirtySource::kDirtyBits);
  Add4K(9, {}, heatmap);  // before the range
  Add4K(13, {}, heatmap);
  Add4K(14, {}, heatmap);
  Add4K(17, {}, heatmap);
  Add4K(18, {}, heatmap);  // after it
  EXPECT_EQ(heatmap.cells()[0].mapped_count, 1);
  EXPECT_EQ(heatmap.cells()[1].mapped_count, 2);
}

TEST(HeatmapTest, AHugeMappingThatStraddlesTheRangeIsCutToIt) {
  Heatmap heatmap({500, 600}, 50, DirtySource::kDirtyBits);
  Add(Leaf(v1::PAGE_LEVEL_2M, 0), 512, heatmap);
  heatmap.EndWalk();
  EXPECT_EQ(heatmap.cells()[0].huge_count, 12);
  EXPECT_EQ(heatmap.cells()[1].huge_count, 0);
  EXPECT_EQ(States(heatmap), "h.");
}

TEST(HeatmapTest, AHugeMappingOfManyCellsFillsThemAll) {
  Heatmap heatmap({0, 2 * kFramesPer1G}, kFramesPer1G / 16,
                  DirtySource::kDirtyBits);
  Add(Leaf(v1::PAGE_LEVEL_1G, kFramesPer1G, {.dirty = true}), 2 * kFramesPer1G,
      heatmap);
  EXPECT_EQ(States(heatmap), "................DDDDDDDDDDDDDDDD");
}

TEST(HeatmapTest, AFrameCountsOnceThoughTheTablesChangeBetweenTwoBatches) {
  Heatmap heatmap({0, 1024}, 512, DirtySource::kDirtyBits);
  v1::WalkRangeResponse batch;
  for (uint64_t gfn = 0; gfn < 300; ++gfn) {
    *batch.add_sptes() = Leaf(v1::PAGE_LEVEL_4K, gfn);
  }
  batch.set_next_gfn(300);
  heatmap.AddWalk(batch);
  // Meanwhile the table was collapsed: the walk goes on inside the huge entry.
  Add(Leaf(v1::PAGE_LEVEL_2M, 0), 512, heatmap);
  EXPECT_EQ(heatmap.cells()[0].mapped_count, 512);
  EXPECT_EQ(heatmap.cells()[0].huge_count, 212);
}

TEST(HeatmapTest, WhatTheWalkDidNotReachIsUnknown) {
  Heatmap heatmap({0, 16}, 4, DirtySource::kDirtyLog);
  EXPECT_EQ(States(heatmap), "????");
  Add4K(3, {}, heatmap);
  EXPECT_EQ(States(heatmap), "m???");
  v1::WalkRangeResponse nothing;
  nothing.set_next_gfn(8);
  heatmap.AddWalk(nothing);
  EXPECT_EQ(States(heatmap), "m.??");
  EXPECT_EQ(heatmap.reached_gfn(), 8u);
  nothing.set_next_gfn(6);  // a walk that goes back is not believed
  heatmap.AddWalk(nothing);
  nothing.set_next_gfn(99);
  EXPECT_EQ(heatmap.reached_gfn(), 8u);
  heatmap.AddWalk(nothing);
  EXPECT_EQ(heatmap.reached_gfn(), 16u);
  EXPECT_EQ(States(heatmap), "m...");
}

TEST(HeatmapTest, TablesAndFrozenOrAbsentEntriesMapNothing) {
  Heatmap heatmap({0, 4}, 1, DirtySource::kDirtyBits);
  v1::Spte spte = Leaf(v1::PAGE_LEVEL_4K, 0);
  spte.set_leaf(false);
  Add(spte, 1, heatmap);
  spte = Leaf(v1::PAGE_LEVEL_4K, 1);
  spte.set_frozen(true);
  Add(spte, 2, heatmap);
  spte = Leaf(v1::PAGE_LEVEL_4K, 2);
  spte.set_present(false);
  Add(spte, 3, heatmap);
  heatmap.EndWalk();
  EXPECT_EQ(States(heatmap), "....");
}

TEST(HeatmapTest, WithTheLogDirtyFramesComeFromItAlone) {
  Heatmap heatmap({64, 72}, 2, DirtySource::kDirtyLog);
  heatmap.AddDirtyLog(MakeBitmap(64, 64, "\x24\xff"));  // 66, 69, and 72 on
  Add4K(64, {.dirty = true}, heatmap);
  heatmap.EndWalk();
  EXPECT_EQ(States(heatmap), "mdd.");
  EXPECT_EQ(heatmap.cells()[0].dirty_count, 0);
  EXPECT_EQ(heatmap.cells()[1].dirty_count, 1) << "dirty, though not mapped";
}

TEST(HeatmapTest, ACellHasAPowerOfTwoOfFrames) {
  EXPECT_EQ(FramesPerCell(1, 2048), 1u);
  EXPECT_EQ(FramesPerCell(2048, 2048), 1u);
  EXPECT_EQ(FramesPerCell(2049, 2048), 2u);
  EXPECT_EQ(FramesPerCell(16384, 2048), 8u);
  EXPECT_EQ(FramesPerCell(16385, 2048), 16u);
  EXPECT_EQ(FramesPerCell(uint64_t{1} << 52, 64), uint64_t{1} << 46);
  EXPECT_EQ(FramesPerCell(~uint64_t{0} >> 1, 1), uint64_t{1} << 63);
}

}  // namespace
}  // namespace tdp::client
