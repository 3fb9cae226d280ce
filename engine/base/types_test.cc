#include "engine/base/types.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr uint64_t kLastFrame = (uint64_t{1} << 52) - 1;
constexpr uint64_t kMax = UINT64_MAX;

GfnRange Frames(uint64_t start, uint64_t end) { return {Gfn(start), Gfn(end)}; }

TEST(AddressTest, FramesAndAddressesConvertAtTheEdgesOfTheSpace) {
  EXPECT_EQ(GfnOf(Gpa(0)), Gfn(0));
  EXPECT_EQ(GfnOf(Gpa(kPageSize - 1)), Gfn(0));
  EXPECT_EQ(GfnOf(Gpa(kPageSize)), Gfn(1));
  EXPECT_EQ(GfnOf(Gpa(kMax)), Gfn(kLastFrame));
  EXPECT_EQ(GpaOf(Gfn(kLastFrame)), Gpa(kMax - kPageSize + 1));
}

TEST(AddressTest, DistanceIsTheWholeSpaceAtMost) {
  EXPECT_EQ(Gfn(kMax) - Gfn(0), kMax);
  EXPECT_EQ(Gfn(7) - Gfn(7), 0u);
  EXPECT_EQ(Gfn(kMax) - uint64_t{1}, Gfn(kMax - 1));
  Gfn gfn(kMax - 1);
  gfn += 1;
  EXPECT_EQ(gfn, Gfn(kMax));
}

TEST(AddressTest, OrderIsThatOfTheNumbers) {
  EXPECT_LT(Gfn(0), Gfn(1));
  EXPECT_LT(Gfn(uint64_t{1} << 63), Gfn(kMax));
  EXPECT_GT(Gfn(uint64_t{1} << 52), Gfn(kLastFrame));
}

TEST(GfnRangeTest, HoldsItsFirstFrameAndNotItsEnd) {
  const GfnRange range = Frames(kLastFrame, kLastFrame + 1);
  EXPECT_EQ(range.size(), 1u);
  EXPECT_FALSE(range.Contains(Gfn(kLastFrame - 1)));
  EXPECT_TRUE(range.Contains(Gfn(kLastFrame)));
  EXPECT_FALSE(range.Contains(Gfn(kLastFrame + 1)));
}

TEST(GfnRangeTest, ReachesTheLastNumberWithoutOverflow) {
  const GfnRange range = Frames(0, kMax);
  EXPECT_EQ(range.size(), kMax);
  EXPECT_TRUE(range.Contains(Gfn(kMax - 1)));
  EXPECT_FALSE(range.Contains(Gfn(kMax)));
  EXPECT_TRUE(range.Contains(Frames(kMax - 1, kMax)));
}

TEST(GfnRangeTest, IsEmptyWhereTheEndIsNotBehindTheStart) {
  EXPECT_TRUE(Frames(0, 0).empty());
  EXPECT_TRUE(Frames(kMax, kMax).empty());
  EXPECT_TRUE(Frames(5, 4).empty());
  EXPECT_TRUE(Frames(kMax, 0).empty());
  EXPECT_FALSE(Frames(kMax - 1, kMax).empty());
}

TEST(GfnRangeTest, NeighboursDoNotOverlap) {
  EXPECT_FALSE(Frames(0, 10).Overlaps(Frames(10, 20)));
  EXPECT_FALSE(Frames(10, 20).Overlaps(Frames(0, 10)));
  EXPECT_TRUE(Frames(0, 11).Overlaps(Frames(10, 20)));
  EXPECT_TRUE(Frames(0, kMax).Overlaps(Frames(kMax - 1, kMax)));
}

TEST(GfnRangeTest, ContainsItselfAndNothingLarger) {
  const GfnRange range = Frames(16, 32);
  EXPECT_TRUE(range.Contains(range));
  EXPECT_FALSE(range.Contains(Frames(15, 32)));
  EXPECT_FALSE(range.Contains(Frames(16, 33)));
}

TEST(GfnRangeTest, IntersectionIsTheCommonPartOrEmpty) {
  EXPECT_EQ(Frames(0, 20).Intersect(Frames(10, kMax)), Frames(10, 20));
  EXPECT_TRUE(Frames(0, 10).Intersect(Frames(10, 20)).empty());
  EXPECT_TRUE(Frames(0, 5).Intersect(Frames(10, 20)).empty());
}

TEST(PageLevelTest, EachLevelCovers512EntriesOfTheOneBelow) {
  EXPECT_EQ(FramesPerEntry(PageLevel::k4K), 1u);
  EXPECT_EQ(FramesPerEntry(PageLevel::k2M), 512u);
  EXPECT_EQ(FramesPerEntry(PageLevel::k1G), 512u * 512);
  for (PageLevel level = PageLevel::k256T; level > PageLevel::k4K;
       level = ChildLevel(level)) {
    EXPECT_EQ(FramesPerEntry(level), FramesPerEntry(ChildLevel(level)) * 512);
    EXPECT_EQ(ParentLevel(ChildLevel(level)), level);
  }
}

TEST(PageLevelTest, RootsSpan48And57BitsOfAddress) {
  EXPECT_EQ(FramesOfRoot(PageLevel::k512G), uint64_t{1} << (48 - kPageShift));
  EXPECT_EQ(FramesOfRoot(PageLevel::k256T), uint64_t{1} << (57 - kPageShift));
}

TEST(PageLevelTest, AlignmentHoldsAtLevelEdges) {
  EXPECT_EQ(AlignDown(Gfn(511), PageLevel::k2M), Gfn(0));
  EXPECT_EQ(AlignDown(Gfn(512), PageLevel::k2M), Gfn(512));
  EXPECT_EQ(AlignDown(Gfn(kMax), PageLevel::k4K), Gfn(kMax));
  EXPECT_EQ(AlignDown(Gfn(kMax), PageLevel::k1G), Gfn(kMax - 0x3ffff));
  EXPECT_TRUE(IsAligned(0, PageLevel::k256T));
  EXPECT_TRUE(IsAligned(512, PageLevel::k2M));
  EXPECT_FALSE(IsAligned(513, PageLevel::k2M));
  EXPECT_FALSE(IsAligned(512, PageLevel::k1G));
}

TEST(PageLevelTest, IndexesAreTheNineBitGroupsOfTheFrame) {
  const Gfn gfn((uint64_t{1} << 36) | (uint64_t{2} << 27) |
                (uint64_t{3} << 18) | (uint64_t{4} << 9) | 5);
  EXPECT_EQ(IndexIn(gfn, PageLevel::k256T), 1);
  EXPECT_EQ(IndexIn(gfn, PageLevel::k512G), 2);
  EXPECT_EQ(IndexIn(gfn, PageLevel::k1G), 3);
  EXPECT_EQ(IndexIn(gfn, PageLevel::k2M), 4);
  EXPECT_EQ(IndexIn(gfn, PageLevel::k4K), 5);
  EXPECT_EQ(IndexIn(Gfn(kMax), PageLevel::k256T), kEntriesPerTable - 1);
}

}  // namespace
}  // namespace tdp
