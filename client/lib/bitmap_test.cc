#include "client/lib/bitmap.h"

#include <string>
#include <vector>

#include "client/testing/bitmaps.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<FrameRange> RunsOfAll(const std::vector<v1::Bitmap>& bitmaps) {
  std::vector<FrameRange> runs;
  ForEachRun(bitmaps, [&](FrameRange run) { runs.push_back(run); });
  return runs;
}

TEST(BitmapTest, RunsCrossBytesAndEndWithTheBitmap) {
  EXPECT_THAT(
      RunsOf(MakeBitmap(64, 24, "\x81\x01\xf0")),
      ElementsAre(FrameRange{64, 65}, FrameRange{71, 73}, FrameRange{84, 88}));
  EXPECT_THAT(RunsOf(MakeBitmap(0, 16, "\xff\xff")),
              ElementsAre(FrameRange{0, 16}));
  EXPECT_THAT(RunsOf(MakeBitmap(0, 8, std::string(1, '\0'))), IsEmpty());
  EXPECT_THAT(RunsOf(v1::Bitmap()), IsEmpty());
}

TEST(BitmapTest, BitsBeyondTheFramesOrFramesBeyondTheBitsAreNone) {
  EXPECT_THAT(RunsOf(MakeBitmap(0, 3, "\xff")), ElementsAre(FrameRange{0, 3}));
  EXPECT_THAT(RunsOf(MakeBitmap(0, 100, "\xff")),
              ElementsAre(FrameRange{0, 8}));
  EXPECT_THAT(RunsOf(MakeBitmap(0, -1, "\xff")), IsEmpty());
}

TEST(BitmapTest, ARunGoesOnInTheNextBitmapOnlyIfThatFollows) {
  const std::string full(8, '\xff');
  EXPECT_THAT(RunsOfAll({MakeBitmap(0, 64, full), MakeBitmap(64, 64, full),
                         MakeBitmap(128, 8, "\x01")}),
              ElementsAre(FrameRange{0, 129}));
  EXPECT_THAT(RunsOfAll({MakeBitmap(0, 64, full), MakeBitmap(128, 64, full)}),
              ElementsAre(FrameRange{0, 64}, FrameRange{128, 192}));
  EXPECT_THAT(RunsOfAll({MakeBitmap(0, 64, full), MakeBitmap(64, 8, "\x02")}),
              ElementsAre(FrameRange{0, 64}, FrameRange{65, 66}));
  EXPECT_THAT(RunsOfAll({}), IsEmpty());
}

TEST(BitmapTest, BitsOfTheFramesAreCounted) {
  EXPECT_EQ(CountBits(MakeBitmap(64, 24, "\x81\x01\xf0")), 7);
  EXPECT_EQ(CountBits(MakeBitmap(0, 3, "\xff")), 3);
  EXPECT_EQ(CountBits(v1::Bitmap()), 0);
}

TEST(BitmapTest, BitsOutsideARangeAreCleared) {
  v1::Bitmap bitmap = MakeBitmap(64, 32, "\xff\xff\xff\xff");
  ClearBitsOutside({70, 90}, bitmap);
  EXPECT_THAT(RunsOf(bitmap), ElementsAre(FrameRange{70, 90}));
  EXPECT_EQ(bitmap.first_gfn(), 64u);
  EXPECT_EQ(bitmap.frame_count(), 32);
  ClearBitsOutside({0, 1000}, bitmap);
  EXPECT_THAT(RunsOf(bitmap), ElementsAre(FrameRange{70, 90}));
  ClearBitsOutside({96, 97}, bitmap);
  EXPECT_THAT(RunsOf(bitmap), IsEmpty());
}

}  // namespace
}  // namespace tdp::client
