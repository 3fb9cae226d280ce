#include "client/lib/age_sum.h"

#include <string>

#include "client/testing/bitmaps.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;

v1::AgeRangeResponse Part(uint64_t next_gfn, int64_t count,
                          const v1::Bitmap& young) {
  v1::AgeRangeResponse part;
  part.set_next_gfn(next_gfn);
  part.set_young_frame_count(count);
  *part.mutable_young() = young;
  return part;
}

TEST(AgeSumTest, CountsAddUpAndTheLastStopIsKept) {
  v1::AgeRangeResponse part;
  part.set_next_gfn(50);
  part.set_young_frame_count(7);
  v1::AgeRangeResponse sum;
  AddAge(part, {0, 100}, sum);
  part.set_next_gfn(100);
  AddAge(part, {0, 100}, sum);
  EXPECT_EQ(sum.next_gfn(), 100u);
  EXPECT_EQ(sum.young_frame_count(), 14);
  EXPECT_FALSE(sum.has_young()) << "none was asked for";
}

TEST(AgeSumTest, BitmapsThatShareAWordAreJoined) {
  const FrameRange range = {70, 140};
  v1::AgeRangeResponse sum;
  // Frames 70 and 71, then 72 and 139.
  AddAge(Part(72, 2, MakeBitmap(64, 8, "\xc0")), range, sum);
  EXPECT_EQ(sum.young().frame_count(), 8);
  std::string bits(10, '\0');
  bits[1] = '\x01';
  bits[9] = '\x08';
  AddAge(Part(140, 2, MakeBitmap(64, 76, bits)), range, sum);
  EXPECT_EQ(sum.young_frame_count(), 4);
  EXPECT_EQ(sum.young().first_gfn(), 64u);
  EXPECT_EQ(sum.young().frame_count(), 76);
  EXPECT_EQ(sum.young().bits().size(), 10u);
  EXPECT_THAT(RunsOf(sum.young()),
              ElementsAre(FrameRange{70, 73}, FrameRange{139, 140}));
}

TEST(AgeSumTest, ABitmapMayBeginPastTheRangesFirstWord) {
  v1::AgeRangeResponse sum;
  AddAge(Part(300, 1, MakeBitmap(256, 44, "\x02")), {10, 300}, sum);
  EXPECT_EQ(sum.young().first_gfn(), 0u);
  EXPECT_EQ(sum.young().frame_count(), 300);
  EXPECT_THAT(RunsOf(sum.young()), ElementsAre(FrameRange{257, 258}));
}

TEST(AgeSumTest, FramesThatWereNotAskedForAreLeftOut) {
  v1::AgeRangeResponse sum;
  AddAge(Part(~uint64_t{0}, 9, MakeBitmap(64, 32, "\xff\xff\xff\xff")),
         {70, 80}, sum);
  EXPECT_EQ(sum.young().frame_count(), 16);
  EXPECT_THAT(RunsOf(sum.young()), ElementsAre(FrameRange{70, 80}));
  AddAge(Part(80, 9, MakeBitmap(0, 8, "\xff")), {70, 80}, sum);
  EXPECT_THAT(RunsOf(sum.young()), ElementsAre(FrameRange{70, 80}));
}

}  // namespace
}  // namespace tdp::client
