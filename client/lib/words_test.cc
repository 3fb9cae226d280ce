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
}

}  // namespace
}  // namespace tdp::client
