#include "client/tdpbench/histogram.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(HistogramTest, NothingHasNoPercentile) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0);
  EXPECT_EQ(histogram.max(), absl::ZeroDuration());
  EXPECT_EQ(histogram.Percentile(0.5), absl::ZeroDuration());
}

TEST(HistogramTest, SmallValuesAreExact) {
  Histogram histogram;
  for (int ns = 1; ns <= 2000; ++ns) histogram.Add(absl::Nanoseconds(ns));
  EXPECT_EQ(histogram.Percentile(0), absl::Nanoseconds(1));
  EXPECT_EQ(histogram.Percentile(0.5), absl::Nanoseconds(1000));
  EXPECT_EQ(histogram.Percentile(0.99), absl::Nanoseconds(1980));
  EXPECT_EQ(histogram.Percentile(1), absl::Nanoseconds(2000));
}

TEST(HistogramTest, EveryValueHasThreeSignificantDigits) {
  std::mt19937_64 random(1);
  std::vector<int64_t> values = {2047, 2048, 2049, 4095, 4096, 1 << 20};
  for (int i = 0; i < 10000; ++i) {
    values.push_back(static_cast<int64_t>(random() >> (25 + random() % 30)));
  }
  for (const int64_t ns : values) {
    const absl::Duration value = absl::Nanoseconds(ns);
    if (value >= Histogram::kMax) continue;
    Histogram histogram;
    histogram.Add(value);
    // Beside it, so that the maximum does not help.
    histogram.Add(Histogram::kMax);
    EXPECT_GE(histogram.Percentile(0.5), value);
    EXPECT_LE(absl::ToInt64Nanoseconds(histogram.Percentile(0.5)),
              ns + ns / 1000)
        << ns;
  }
}

TEST(HistogramTest, WhatIsOutOfRangeCountsAtItsEnds) {
  Histogram histogram;
  histogram.Add(absl::Hours(2));
  histogram.Add(absl::InfiniteDuration());
  histogram.Add(absl::Seconds(-1));
  EXPECT_EQ(histogram.count(), 3);
  EXPECT_EQ(histogram.max(), Histogram::kMax);
  EXPECT_EQ(histogram.Percentile(0.1), absl::ZeroDuration());
}

TEST(HistogramTest, MergedHistogramsAreAsIfOneHadCountedAll) {
  Histogram all;
  Histogram parts[2];
  for (int i = 1; i <= 1000; ++i) {
    const absl::Duration latency = absl::Microseconds(i * i);
    all.Add(latency);
    parts[i % 2].Add(latency);
  }
  parts[0].Merge(parts[1]);
  EXPECT_EQ(parts[0].count(), all.count());
  EXPECT_EQ(parts[0].max(), all.max());
  for (const double fraction : {0.1, 0.5, 0.9, 0.999}) {
    EXPECT_EQ(parts[0].Percentile(fraction), all.Percentile(fraction));
  }
}

TEST(HistogramTest, CountsWhatIsBetweenTwoBounds) {
  Histogram histogram;
  for (const int us : {10, 63, 64, 127, 128}) {
    histogram.Add(absl::Microseconds(us));
  }
  EXPECT_EQ(
      histogram.CountBetween(absl::Microseconds(64), absl::Microseconds(128)),
      2);
  EXPECT_EQ(
      histogram.CountBetween(absl::ZeroDuration(), absl::InfiniteDuration()),
      5);
}

}  // namespace
}  // namespace tdp::client
