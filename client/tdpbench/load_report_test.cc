#include "client/tdpbench/load_report.h"

#include <sstream>

#include "client/tdpbench/thresholds.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// 100 walks of 1 to 100 us, and 20 maps of 1 ms, in two seconds.
LoadReport Example() {
  LoadReport report;
  for (int i = 1; i <= 100; ++i) {
    auto& walks = report.operations[Operation::kWalkGfn];
    walks.from_intended.Add(absl::Microseconds(i));
    walks.from_actual.Add(absl::Microseconds(i) / 2);
  }
  for (int i = 0; i < 20; ++i) {
    report.operations[Operation::kMap].from_intended.Add(absl::Milliseconds(1));
    report.operations[Operation::kMap].from_actual.Add(absl::Milliseconds(1));
  }
  report.errors[absl::StatusCode::kNotFound] = 2;
  report.missed_count = 3;
  report.ok_in_time_count = 118;
  report.elapsed = absl::Seconds(2);
  report.client_cpu = absl::Milliseconds(12);
  return report;
}

TEST(LoadReportTest, SumsUpItsOperations) {
  const LoadReport report = Example();
  EXPECT_EQ(report.ok_count(), 120);
  EXPECT_EQ(report.error_count(), 5) << "what was never sent is an error";
  EXPECT_DOUBLE_EQ(report.OkPerSecond(), 59) << "two came too late";
  EXPECT_DOUBLE_EQ(report.ErrorRate(), 5.0 / 125);
  EXPECT_DOUBLE_EQ(LoadReport().ErrorRate(), 0);
  EXPECT_DOUBLE_EQ(LoadReport().OkPerSecond(), 0);
}

TEST(LoadReportTest, TheTextHasATableAndAPlot) {
  std::ostringstream out;
  PrintText(Example(), out);
  const std::string text = out.str();
  EXPECT_THAT(text, HasSubstr("walk_gfn"));
  EXPECT_THAT(text, HasSubstr("59 answered a second"));
  EXPECT_THAT(text, HasSubstr("NOT_FOUND 2"));
  EXPECT_THAT(text, HasSubstr("never sent for want of room 3"));
  EXPECT_THAT(text, HasSubstr("client CPU  0.01 s, 100.0 us a call"));
  EXPECT_THAT(text, HasSubstr("daemon CPU  n/a"));
  EXPECT_THAT(text,
              HasSubstr("<       128 us  " + std::string(50, '#') + " 37\n"));
  EXPECT_THAT(text, HasSubstr("<         2 us  ## "))
      << "one call is seen, too";
}

TEST(LoadReportTest, AnEmptyReportCanBeShown) {
  std::ostringstream out;
  PrintText(LoadReport(), out);
  EXPECT_THAT(out.str(), HasSubstr("0 answered a second"));
  EXPECT_THAT(ToJson(LoadReport()), HasSubstr("\"okCount\":0"));
}

TEST(LoadReportTest, TheJsonSaysTheSame) {
  LoadReport report = Example();
  EXPECT_THAT(ToJson(report), HasSubstr("\"daemonCpuSeconds\":null"));
  report.daemon_cpu = absl::Milliseconds(250);
  const std::string json = ToJson(report);
  EXPECT_THAT(json, HasSubstr("\"daemonCpuSeconds\":0.250"));
  EXPECT_THAT(json, HasSubstr("\"okCount\":120,\"okPerSecond\":59.0"));
  EXPECT_THAT(json, HasSubstr("\"errors\":{\"NOT_FOUND\":2}"));
  EXPECT_THAT(json, HasSubstr("\"map\":{\"fromIntended\":{\"count\":20"));
}

TEST(ThresholdsTest, NothingIsBrokenThatWasNotAskedFor) {
  EXPECT_THAT(Broken({}, Example()), IsEmpty());
  EXPECT_THAT(Broken({}, LoadReport()), IsEmpty());
}

TEST(ThresholdsTest, AThresholdHoldsAtItsValueAndNotBeyond) {
  const LoadReport report = Example();
  EXPECT_THAT(Broken({.max_p50 = report.Total().Percentile(0.5),
                      .max_p99 = absl::Milliseconds(1),
                      .max_error_rate = 0.04,
                      .min_rate = 59},
                     report),
              IsEmpty());
  EXPECT_THAT(Broken({.max_p99 = absl::Microseconds(999)}, report),
              ElementsAre("p99 is 1ms; at most 999us is allowed"));
  EXPECT_THAT(Broken({.max_error_rate = 0.039}, report),
              ElementsAre("the error rate is 0.04; at most 0.039 is allowed"));
  EXPECT_THAT(
      Broken({.min_rate = 60.1}, report),
      ElementsAre("the rate is 59.0 a second; at least 60.1 is asked for"));
}

TEST(ThresholdsTest, LatenciesOfNothingAreTooLong) {
  EXPECT_THAT(
      Broken({.max_p50 = absl::Hours(1), .max_p999 = absl::Hours(1)},
             LoadReport()),
      ElementsAre(HasSubstr("p50 is unknown"), HasSubstr("p99.9 is unknown")));
}

}  // namespace
}  // namespace tdp::client
