#include "client/tdpbench/load.h"

#include <atomic>

#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace tdp::client {
namespace {

TEST(RunLoadTest, EachWorkerCallsUntilTheTimeIsOver) {
  std::atomic<int64_t> made{0};
  const LoadReport report = RunLoad({.worker_count = 3,
                                     .warm_up = absl::Milliseconds(20),
                                     .duration = absl::Milliseconds(50)},
                                    [&](int worker, int64_t) {
                                      EXPECT_LT(worker, 3);
                                      absl::SleepFor(absl::Microseconds(500));
                                      ++made;
                                      return absl::OkStatus();
                                    });
  EXPECT_GE(report.call_count, 3);
  EXPECT_LE(report.call_count, made.load());
  EXPECT_EQ(report.error_count, 0);
  EXPECT_GE(report.p50, absl::Microseconds(500));
  EXPECT_LE(report.p50, report.p90);
  EXPECT_LE(report.p90, report.p99);
  EXPECT_LE(report.p99, report.max);
  EXPECT_GE(report.elapsed, absl::Milliseconds(50));
}

TEST(RunLoadTest, CallsThatFailAreErrorsAndHaveNoLatency) {
  const LoadReport report = RunLoad(
      {.warm_up = absl::ZeroDuration(), .duration = absl::Milliseconds(5)},
      [](int, int64_t) { return absl::NotFoundError("no such VM"); });
  EXPECT_EQ(report.call_count, 0);
  EXPECT_GE(report.error_count, 1);
  EXPECT_EQ(report.first_error.message(), "no such VM");
  EXPECT_EQ(report.max, absl::ZeroDuration());
}

TEST(RunLoadTest, TextAndJsonSayTheSame) {
  LoadReport report;
  report.call_count = 200;
  report.elapsed = absl::Seconds(2);
  report.p50 = absl::Microseconds(12);
  EXPECT_NE(LoadText(report).find("200 in 2.0 s, 100 a second"),
            std::string::npos);
  EXPECT_NE(LoadJson(report).find("\"callCount\":200"), std::string::npos);
  EXPECT_NE(LoadJson(report).find("\"p50Us\":12.0"), std::string::npos);
}

}  // namespace
}  // namespace tdp::client
