#include "engine/bench/harness.h"

#include <string>
#include <vector>

#include "engine/bench/report.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

int64_t NothingStolen() { return 0; }

Side Always(double ns) {
  return [ns](int64_t) { return ns; };
}

TEST(HarnessTest, CostIsTheCandidatesOverTheBaselines) {
  Harness harness({.rounds = 5}, NothingStolen);
  harness.Measure({.id = "E1",
                   .candidate = Always(3),
                   .baseline = Always(2),
                   .better = Better::kAtMost,
                   .target = 1.6});
  ASSERT_EQ(harness.results().size(), 1u);
  EXPECT_EQ(harness.results()[0].median, 1.5);
  EXPECT_EQ(harness.results()[0].rounds, 5);
  EXPECT_EQ(harness.results()[0].verdict, Verdict::kPass);
}

TEST(HarnessTest, GainIsTheBaselinesCostOverTheCandidates) {
  Harness harness({.rounds = 5}, NothingStolen);
  harness.Measure({.id = "E3",
                   .candidate = Always(2),
                   .baseline = Always(30),
                   .better = Better::kAtLeast,
                   .target = 20});
  EXPECT_EQ(harness.results()[0].median, 15);
  EXPECT_EQ(harness.results()[0].verdict, Verdict::kFail);
}

TEST(HarnessTest, RowWithoutATargetIsNotJudged) {
  Harness harness({.rounds = 3}, NothingStolen);
  harness.Measure({.id = "E1", .candidate = Always(3), .baseline = Always(2)});
  EXPECT_EQ(harness.results()[0].verdict, Verdict::kInfo);
}

TEST(HarnessTest, SidesTakeTurnsOnTheSameSlices) {
  Harness harness({.rounds = 2}, NothingStolen);
  std::vector<std::string> calls;
  const auto side = [&calls](const char* name) {
    return [&calls, name](int64_t slice) {
      calls.push_back(name + std::to_string(slice));
      return 1.0;
    };
  };
  harness.Measure({.id = "E1", .candidate = side("a"), .baseline = side("b")});
  ASSERT_GE(calls.size(), 10u);
  calls.resize(10);
  EXPECT_THAT(calls, ElementsAre("a0", "b0", "a1", "b1", "b2", "a2", "b3", "a3",
                                 "a4", "b4"));
}

TEST(HarnessTest, InconclusiveRowRunsOnceMore) {
  Harness harness({.rounds = 10}, NothingStolen);
  int64_t call = 0;
  harness.Measure(
      {.id = "E1",
       .candidate = [&](int64_t) { return ++call % 4 < 2 ? 1. : 9.; },
       .baseline = Always(2),
       .target = 1});
  EXPECT_TRUE(harness.results()[0].rerun);
  EXPECT_EQ(harness.results()[0].rounds, 20);
}

TEST(HarnessTest, RoundsWithStolenTimeDoNotCount) {
  int64_t stolen = 0;
  int64_t asked = 0;
  // Asked twice a round: each fifth round loses 10 ms.
  Harness harness({.rounds = 8},
                  [&] { return ++asked % 10 == 0 ? stolen += 10 : stolen; });
  harness.Measure(
      {.id = "E1", .candidate = Always(1), .baseline = Always(1), .target = 1});
  EXPECT_EQ(harness.results()[0].rounds, 8);
  EXPECT_EQ(harness.results()[0].dropped, 1);
  EXPECT_EQ(harness.results()[0].verdict, Verdict::kPass);
}

TEST(HarnessTest, TooManyDroppedRoundsAreInconclusive) {
  int64_t stolen = 0;
  int64_t asked = 0;
  Harness harness({.rounds = 8},
                  [&] { return ++asked % 4 == 0 ? stolen += 10 : stolen; });
  harness.Measure(
      {.id = "E1", .candidate = Always(1), .baseline = Always(1), .target = 1});
  EXPECT_GT(harness.results()[0].dropped, 8);
  EXPECT_EQ(harness.results()[0].verdict, Verdict::kInconclusive);
}

TEST(HarnessTest, QuickRowsHaveNoVerdict) {
  Harness harness({.rounds = 3, .quick = true}, NothingStolen);
  harness.Measure(
      {.id = "E1", .candidate = Always(3), .baseline = Always(1), .target = 1});
  harness.Record({.id = "E11", .value = 3, .target = 1});
  EXPECT_EQ(harness.results()[0].verdict, Verdict::kInfo);
  EXPECT_EQ(harness.results()[1].verdict, Verdict::kInfo);
}

TEST(HarnessTest, RowsAreChosenByTheirWholeNumber) {
  const Harness harness({.rows = {"E1", "E3b"}}, NothingStolen);
  EXPECT_TRUE(harness.Wants("E1"));
  EXPECT_TRUE(harness.Wants("E1b"));
  EXPECT_FALSE(harness.Wants("E10"));
  EXPECT_FALSE(harness.Wants("E3"));
  EXPECT_TRUE(harness.Wants("E3b"));
}

TEST(HarnessTest, CountsAreJudgedAsTheyAre) {
  Harness harness({}, NothingStolen);
  harness.Record({.id = "E10", .unit = "lines", .value = 0, .target = 0});
  harness.Record({.id = "E9", .unit = "us", .value = 51, .target = 50});
  EXPECT_EQ(harness.results()[0].verdict, Verdict::kPass);
  EXPECT_EQ(harness.results()[1].verdict, Verdict::kFail);
}

TEST(HarnessTest, BadValueOnAMachineThatIsAsBadIsInconclusive) {
  Harness harness({}, NothingStolen);
  harness.Record({.id = "E9", .value = 300, .target = 200, .noise = 250});
  harness.Record({.id = "E9", .value = 300, .target = 200, .noise = 150});
  harness.Record({.id = "E9", .value = 100, .target = 200, .noise = 250});
  EXPECT_EQ(harness.results()[0].verdict, Verdict::kInconclusive);
  EXPECT_EQ(harness.results()[1].verdict, Verdict::kFail);
  EXPECT_EQ(harness.results()[2].verdict, Verdict::kPass);
}

TEST(ReportTest, JsonQuotesWhatItMust) {
  const std::string json =
      ToJson({{"cpu", "a \"b\" \\ c"}},
             {{.id = "E1", .what = "x", .unit = "x", .median = 1.5}});
  EXPECT_THAT(json, HasSubstr(R"("cpu": "a \"b\" \\ c")"));
  EXPECT_THAT(json, HasSubstr(R"("id": "E1")"));
  EXPECT_THAT(json, HasSubstr(R"("median": 1.5)"));
}

TEST(ReportTest, TableShowsLosers) {
  Harness harness({.rounds = 3}, NothingStolen);
  harness.Measure({.id = "E1",
                   .what = "walks",
                   .candidate = Always(3),
                   .baseline = Always(1),
                   .target = 2});
  const std::string table = ToTable({}, harness.results());
  EXPECT_THAT(table, HasSubstr("FAIL"));
  EXPECT_THAT(table, HasSubstr("walks"));
}

}  // namespace
}  // namespace tdp::bench
