#include "engine/bench/stats.h"

#include <vector>

#include "gtest/gtest.h"

namespace tdp::bench {
namespace {

TEST(StatsTest, MedianOfOddManyIsTheMiddleOne) {
  EXPECT_EQ(Median(std::vector<double>{5, 1, 3}), 3);
}

TEST(StatsTest, MedianOfEvenManyLiesBetweenTheTwoInTheMiddle) {
  EXPECT_EQ(Median(std::vector<double>{4, 1, 2, 3}), 2.5);
}

TEST(StatsTest, OneValueIsEveryPercentile) {
  const std::vector<double> one = {7};
  EXPECT_EQ(Percentile(one, 0), 7);
  EXPECT_EQ(Median(one), 7);
  EXPECT_EQ(Percentile(one, 1), 7);
}

TEST(StatsTest, PercentilesReachBothEnds) {
  const std::vector<double> values = {10, 20, 30, 40, 50};
  EXPECT_EQ(Percentile(values, 0), 10);
  EXPECT_EQ(Percentile(values, 0.25), 20);
  EXPECT_EQ(Percentile(values, 1), 50);
}

TEST(StatsTest, OneOutlierDoesNotMoveTheMedian) {
  EXPECT_EQ(Median(std::vector<double>{1, 1, 1, 1, 1e9}), 1);
}

TEST(StatsTest, BootstrapRepeatsWithItsSeed) {
  std::vector<double> values;
  for (int i = 0; i < 40; ++i) values.push_back(1 + 0.01 * ((i * 7) % 40));
  const Interval a = BootstrapMedian(values, 42);
  const Interval b = BootstrapMedian(values, 42);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_LE(a.low, Median(values));
  EXPECT_GE(a.high, Median(values));
  EXPECT_LT(a.low, a.high);
}

TEST(StatsTest, BootstrapOfEqualValuesIsAPoint) {
  const Interval interval = BootstrapMedian(std::vector<double>(40, 2.0), 1);
  EXPECT_EQ(interval.low, 2);
  EXPECT_EQ(interval.high, 2);
}

TEST(VerdictTest, WholeIntervalBelowAnUpperTargetPasses) {
  EXPECT_EQ(JudgeRatio(1.2, {1.15, 1.3}, 1.35, Better::kAtMost),
            Verdict::kPass);
}

TEST(VerdictTest, WholeIntervalAboveAnUpperTargetFails) {
  EXPECT_EQ(JudgeRatio(1.5, {1.4, 1.6}, 1.35, Better::kAtMost), Verdict::kFail);
}

TEST(VerdictTest, LowerTargetsAreJudgedTheOtherWayRound) {
  EXPECT_EQ(JudgeRatio(20, {19, 21}, 15, Better::kAtLeast), Verdict::kPass);
  EXPECT_EQ(JudgeRatio(12, {11, 13}, 15, Better::kAtLeast), Verdict::kFail);
}

TEST(VerdictTest, TargetInsideTheIntervalIsInconclusive) {
  EXPECT_EQ(JudgeRatio(1.34, {1.30, 1.38}, 1.35, Better::kAtMost),
            Verdict::kInconclusive);
}

TEST(VerdictTest, WideIntervalIsInconclusiveHoweverFarFromTheTarget) {
  EXPECT_EQ(JudgeRatio(1.0, {0.8, 1.1}, 10, Better::kAtMost),
            Verdict::kInconclusive);
  EXPECT_EQ(JudgeRatio(1.0, {0.9, 1.2}, 10, Better::kAtMost),
            Verdict::kInconclusive);
}

TEST(VerdictTest, TargetItselfIsGoodEnough) {
  EXPECT_EQ(JudgeValue(50, 50, Better::kAtMost), Verdict::kPass);
  EXPECT_EQ(JudgeValue(50, 50, Better::kAtLeast), Verdict::kPass);
  EXPECT_EQ(JudgeValue(51, 50, Better::kAtMost), Verdict::kFail);
}

}  // namespace
}  // namespace tdp::bench
