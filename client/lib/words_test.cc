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

}  // namespace
}  // namespace tdp::client
