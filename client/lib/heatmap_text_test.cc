#include "client/lib/heatmap_text.h"

#include <string>

#include "client/testing/bitmaps.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// A walk that maps [0, 8) and [512, 1024), the latter huge and young.
v1::WalkRangeResponse Walk() {
  v1::WalkRangeResponse batch;
  for (uint64_t gfn = 0; gfn < 8; ++gfn) {
    v1::Spte& spte = *batch.add_sptes();
    spte.set_level(v1::PAGE_LEVEL_4K);
    spte.set_base_gfn(gfn);
    spte.set_present(true);
    spte.set_leaf(true);
    spte.set_dirty(gfn == 5);
  }
  v1::Spte& huge = *batch.add_sptes();
  huge.set_level(v1::PAGE_LEVEL_2M);
  huge.set_base_gfn(512);
  huge.set_present(true);
  huge.set_leaf(true);
  huge.set_accessed(true);
  batch.set_next_gfn(1024);
  return batch;
}

TEST(HeatmapTextTest, RowsStandBelowTheScaleAndTheTotals) {
  Heatmap heatmap({0, 2048}, 128, DirtySource::kDirtyBits);
  heatmap.AddWalk(Walk());
  heatmap.EndWalk();
  EXPECT_EQ(HeatmapText(heatmap, {"vms/a/memslots/r", ""}, {.width = 6}),
            "vms/a/memslots/r  0x0..0x800000  cell: 128 frames (512K)\n"
            "mapped 2.0M of 8M  huge 2.0M  young 2.0M  dirty 4.0K by the "
            "Dirty bits\n"
            "gfn:0x0    d...YY\n"
            "gfn:0x300  YY....\n"
            "gfn:0x600  ....\n");
}

TEST(HeatmapTextTest, AnUnreachedCellAndThePartOfACellHaveTheirCharacters) {
  Heatmap heatmap({0, 2048}, 4, DirtySource::kDirtyLog);
  heatmap.AddDirtyLog(MakeBitmap(0, 64, "\x0f\x01"));
  heatmap.AddWalk(Walk());
  const std::string text = HeatmapText(
      heatmap, {"vms/a/memslots/r", "vms/a/dirtyConsumers/b"}, {.width = 512});
  EXPECT_THAT(text, HasSubstr("dirty 20.0K by the log of b\n"));
  EXPECT_THAT(text, HasSubstr("gfn:0x0  DMd..."));
  EXPECT_THAT(text, EndsWith("YY" + std::string(256, '?') + "\n"));
}

TEST(HeatmapTextTest, AMemslotOfOneFrameIsOneCell) {
  Heatmap heatmap({256, 257}, 1, DirtySource::kDirtyBits);
  heatmap.EndWalk();
  EXPECT_THAT(HeatmapText(heatmap, {"s", ""}, {}),
              EndsWith("  cell: 1 frame (4K)\n"
                       "mapped 0 of 4K  huge 0  young 0  dirty 0 by the Dirty "
                       "bits\n"
                       "gfn:0x100  .\n"));
}

TEST(HeatmapTextTest, ColorsChangeOnlyWhereTheStateDoes) {
  Heatmap heatmap({0, 2048}, 128, DirtySource::kDirtyBits);
  heatmap.AddWalk(Walk());
  heatmap.EndWalk();
  EXPECT_THAT(HeatmapText(heatmap, {"s", ""}, {.width = 16, .colors = true}),
              EndsWith("gfn:0x0  \x1b[31m"
                       "d\x1b[2m...\x1b[33m"
                       "YYYY\x1b[2m........\x1b[0m\n"));
  EXPECT_THAT(HeatmapLegend(true), HasSubstr("\x1b[31mD\x1b[0m dirty  "));
  EXPECT_THAT(HeatmapLegend(false), Not(HasSubstr("\x1b")));
}

TEST(HeatmapTextTest, TheLegendNamesEveryCharacter) {
  EXPECT_EQ(HeatmapLegend(false),
            "D dirty  Y young  H huge  M mapped  . unmapped  ? not reached  "
            "(small: partly)\n");
}

TEST(HeatmapTextTest, JsonHasTheCountsOfTheCellsThatWereReached) {
  Heatmap heatmap({0, 2048}, 512, DirtySource::kDirtyBits);
  heatmap.AddWalk(Walk());
  EXPECT_EQ(HeatmapJson(heatmap, {"vms/a/memslots/r", ""}),
            R"({"cells":[)"
            R"({"dirtyFrameCount":"1","frameCount":"512",)"
            R"("hugeFrameCount":"0","mappedFrameCount":"8",)"
            R"("startGfn":"0","youngFrameCount":"0"},)"
            R"({"dirtyFrameCount":"0","frameCount":"512",)"
            R"("hugeFrameCount":"512","mappedFrameCount":"512",)"
            R"("startGfn":"512","youngFrameCount":"512"}],)"
            R"("dirtySource":"DIRTY_BITS","endGfn":"2048",)"
            R"("framesPerCell":"512","memslot":"vms/a/memslots/r",)"
            R"("reachedGfn":"1024","startGfn":"0"})");
  Heatmap logged({0, 1}, 1, DirtySource::kDirtyLog);
  EXPECT_THAT(HeatmapJson(logged, {"s", "vms/a/dirtyConsumers/default"}),
              HasSubstr(R"({"cells":[],)"
                        R"("dirtySource":"vms/a/dirtyConsumers/default")"));
}

}  // namespace
}  // namespace tdp::client
