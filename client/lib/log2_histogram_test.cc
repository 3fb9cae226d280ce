#include "client/lib/log2_histogram.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(Log2HistogramTest, QuantilesAreBucketBounds) {
  const std::vector<int64_t> counts = {0, 0, 50, 0, 49, 1};
  EXPECT_EQ(QuantileText(counts, 50), "4 us");
  EXPECT_EQ(QuantileText(counts, 51), "16 us");
  EXPECT_EQ(QuantileText(counts, 99), "16 us");
  EXPECT_EQ(QuantileText(counts, 100), "32 us");
}

TEST(Log2HistogramTest, OneValueIsEveryQuantile) {
  const std::vector<int64_t> counts = {1};
  EXPECT_EQ(QuantileText(counts, 0), "1 us");
  EXPECT_EQ(QuantileText(counts, 50), "1 us");
  EXPECT_EQ(QuantileText(counts, 100), "1 us");
}

TEST(Log2HistogramTest, NothingCountedIsNoQuantile) {
  EXPECT_EQ(QuantileText({}, 50), "");
  EXPECT_EQ(QuantileText({0, 0}, 50), "");
}

TEST(Log2HistogramTest, LargeCountsDoNotOverflow) {
  EXPECT_EQ(QuantileText({int64_t{1} << 62, int64_t{1} << 61}, 99), "2 us");
}

}  // namespace
}  // namespace tdp::client
