#include "client/tdpbench/schedule.h"

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

// No clock runs here: the test says what time it is.
const absl::Time kStart = absl::FromUnixSeconds(1000);

TEST(ScheduleTest, AnOpenLoopStartsCallsAtItsRate) {
  Schedule schedule(kStart, kStart + absl::Seconds(1), 10);
  EXPECT_EQ(schedule.TakeDue(kStart), kStart);
  EXPECT_EQ(schedule.TakeDue(kStart), std::nullopt) << "one only";
  EXPECT_EQ(schedule.NextTime(kStart), kStart + absl::Milliseconds(100));
  EXPECT_EQ(schedule.TakeDue(kStart + absl::Milliseconds(99)), std::nullopt);
  EXPECT_EQ(schedule.TakeDue(kStart + absl::Milliseconds(100)),
            kStart + absl::Milliseconds(100));
}

TEST(ScheduleTest, ACallThatWaitedCountsFromWhenItShouldHaveStarted) {
  Schedule schedule(kStart, kStart + absl::Seconds(1), 10);
  const absl::Time late = kStart + absl::Milliseconds(250);
  EXPECT_EQ(schedule.TakeDue(late), kStart);
  EXPECT_EQ(schedule.TakeDue(late), kStart + absl::Milliseconds(100));
  EXPECT_EQ(schedule.TakeDue(late), kStart + absl::Milliseconds(200));
  EXPECT_EQ(schedule.TakeDue(late), std::nullopt);
}

TEST(ScheduleTest, RatesDoNotDrift) {
  Schedule schedule(kStart, kStart + absl::Seconds(1000), 3);
  const absl::Time last = kStart + absl::Seconds(999);
  absl::Time time;
  int64_t count = 0;
  while (const auto due = schedule.TakeDue(last)) {
    time = *due;
    ++count;
  }
  EXPECT_EQ(count, 2998);
  EXPECT_LT(last - time, absl::Microseconds(1));
}

TEST(ScheduleTest, AfterTheEndOnlyLateCallsStartAndWhatDidNotIsCounted) {
  Schedule schedule(kStart, kStart + absl::Seconds(1), 10);
  EXPECT_EQ(schedule.MissedCount(), 10);
  schedule.TakeDue(kStart);
  schedule.TakeDue(kStart + absl::Milliseconds(900));
  EXPECT_EQ(schedule.MissedCount(), 8);
  const absl::Time after = kStart + absl::Seconds(2);
  EXPECT_EQ(schedule.NextTime(after), kStart + absl::Milliseconds(200));
  EXPECT_EQ(schedule.TakeDue(after), kStart + absl::Milliseconds(200));
  for (int i = 3; i < 10; ++i) EXPECT_NE(schedule.TakeDue(after), std::nullopt);
  EXPECT_EQ(schedule.TakeDue(after), std::nullopt) << "the tenth is the last";
  EXPECT_EQ(schedule.MissedCount(), 0);
}

TEST(ScheduleTest, AClosedLoopStartsCallsAsLongAsThereIsTime) {
  Schedule schedule(kStart, kStart + absl::Seconds(1), 0);
  const absl::Time now = kStart + absl::Milliseconds(300);
  EXPECT_EQ(schedule.TakeDue(now), now);
  EXPECT_EQ(schedule.TakeDue(now), now);
  EXPECT_EQ(schedule.TakeDue(kStart + absl::Seconds(1)), std::nullopt);
  EXPECT_EQ(schedule.MissedCount(), 0);
}

}  // namespace
}  // namespace tdp::client
