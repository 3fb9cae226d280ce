#include "client/tdpbench/schedule.h"

#include "gtest/gtest.h"

namespace tdp::client {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// No clock runs here: the test says what time it is.
const SteadyTime kStart = SteadyTime(seconds(1000));

TEST(ScheduleTest, AnOpenLoopStartsCallsAtItsRate) {
  Schedule schedule(kStart, kStart + seconds(1), 10);
  EXPECT_EQ(schedule.TakeDue(kStart), kStart);
  EXPECT_EQ(schedule.TakeDue(kStart), std::nullopt) << "one only";
  EXPECT_EQ(schedule.NextTime(kStart), kStart + milliseconds(100));
  EXPECT_EQ(schedule.TakeDue(kStart + milliseconds(99)), std::nullopt);
  EXPECT_EQ(schedule.TakeDue(kStart + milliseconds(100)),
            kStart + milliseconds(100));
}

TEST(ScheduleTest, ACallThatWaitedCountsFromWhenItShouldHaveStarted) {
  Schedule schedule(kStart, kStart + seconds(1), 10);
  const SteadyTime late = kStart + milliseconds(250);
  EXPECT_EQ(schedule.TakeDue(late), kStart);
  EXPECT_EQ(schedule.TakeDue(late), kStart + milliseconds(100));
  EXPECT_EQ(schedule.TakeDue(late), kStart + milliseconds(200));
  EXPECT_EQ(schedule.TakeDue(late), std::nullopt);
}

TEST(ScheduleTest, RatesDoNotDrift) {
  Schedule schedule(kStart, kStart + seconds(1000), 3);
  const SteadyTime last = kStart + seconds(999);
  SteadyTime time;
  int64_t count = 0;
  while (const auto due = schedule.TakeDue(last)) {
    time = *due;
    ++count;
  }
  EXPECT_EQ(count, 2998);
  EXPECT_LT(last - time, microseconds(1));
}

TEST(ScheduleTest, AfterTheEndOnlyLateCallsStartAndWhatDidNotIsCounted) {
  Schedule schedule(kStart, kStart + seconds(1), 10);
  EXPECT_EQ(schedule.MissedCount(), 10);
  schedule.TakeDue(kStart);
  schedule.TakeDue(kStart + milliseconds(900));
  EXPECT_EQ(schedule.MissedCount(), 8);
  const SteadyTime after = kStart + seconds(2);
  EXPECT_EQ(schedule.NextTime(after), kStart + milliseconds(200));
  EXPECT_EQ(schedule.TakeDue(after), kStart + milliseconds(200));
  for (int i = 3; i < 10; ++i) EXPECT_NE(schedule.TakeDue(after), std::nullopt);
  EXPECT_EQ(schedule.TakeDue(after), std::nullopt) << "the tenth is the last";
  EXPECT_EQ(schedule.MissedCount(), 0);
}

TEST(ScheduleTest, AClosedLoopStartsCallsAsLongAsThereIsTime) {
  Schedule schedule(kStart, kStart + seconds(1), 0);
  const SteadyTime now = kStart + milliseconds(300);
  EXPECT_EQ(schedule.TakeDue(now), now);
  EXPECT_EQ(schedule.TakeDue(now), now);
  EXPECT_EQ(schedule.TakeDue(kStart + seconds(1)), std::nullopt);
  EXPECT_EQ(schedule.MissedCount(), 0);
}

}  // namespace
}  // namespace tdp::client
