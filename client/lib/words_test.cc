#include "client/lib/words.h"

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(WordsTest, EnumValuesLoseTheirPrefix) {
  EXPECT_EQ(EnumText("STATE_RUNNING", "STATE_"), "RUNNING");
  EXPECT_EQ(EnumText("STATE_UNSPECIFIED", "STATE_"), "-");
  EXPECT_EQ(EnumText("", "STATE_"), "-");
}

TEST(WordsTest, OneIsSingular) {
  EXPECT_EQ(CountText(0, "frame"), "0 frames");
  EXPECT_EQ(CountText(1, "frame"), "1 frame");
  EXPECT_EQ(CountText(2, "root"), "2 roots");
  EXPECT_EQ(CountText(1, "entry", "entries"), "1 entry");
  EXPECT_EQ(CountText(0, "entry", "entries"), "0 entries");
}

TEST(WordsTest, FramesAreCountedAndMeasured) {
  EXPECT_EQ(FramesText(0), "0 frames (0)");
  EXPECT_EQ(FramesText(1), "1 frame (4K)");
  EXPECT_EQ(FramesText(256), "256 frames (1M)");
}

TEST(WordsTest, SizesAreRoundedToOneDigitOfTheirUnit) {
  EXPECT_EQ(RoundSizeText(0), "0");
  EXPECT_EQ(RoundSizeText(1023), "1023");
  EXPECT_EQ(RoundSizeText(1024), "1.0K");
  EXPECT_EQ(RoundSizeText(12345 << 12), "48.2M");
  EXPECT_EQ(RoundSizeText((uint64_t{1} << 20) - 1), "1.0M");
  EXPECT_EQ(RoundSizeText(uint64_t{64} << 30), "64.0G");
  EXPECT_EQ(RoundSizeText(~uint64_t{0}), "16.0E");
}

TEST(WordsTest, SharesAreOfSomething) {
  EXPECT_EQ(ShareText(0, 8), "0.0%");
  EXPECT_EQ(ShareText(1, 8), "12.5%");
  EXPECT_EQ(ShareText(8, 8), "100.0%");
  EXPECT_EQ(ShareText(0, 0), "-");
}

}  // namespace
}  // namespace tdp::client
