#include "engine/vm/working_set.h"

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr absl::Duration kMs = absl::Milliseconds(1);

TEST(IdleHistogramTest, HasTheSameBucketsWhateverItCounts) {
  const std::vector<WorkingSetBucket> buckets = IdleHistogram().buckets();
  ASSERT_EQ(buckets.size(), 19u);
  EXPECT_EQ(buckets[0].min_age, absl::ZeroDuration());
  EXPECT_EQ(buckets[1].min_age, 100 * kMs);
  EXPECT_EQ(buckets[2].min_age, 200 * kMs);
  EXPECT_EQ(buckets[18].min_age, 13'107'200 * kMs);
  for (const WorkingSetBucket& bucket : buckets) {
    EXPECT_EQ(bucket.frame_count, 0);
  }
}

TEST(IdleHistogramTest, PutsAFrameIntoTheLastBucketWhoseBoundItReaches) {
  const struct {
    absl::Duration age;
    size_t bucket;
  } cases[] = {{absl::ZeroDuration(), 0},
               {99 * kMs, 0},
               {100 * kMs, 1},
               {199 * kMs, 1},
               {200 * kMs, 2},
               {13'107'199 * kMs, 17},
               {13'107'200 * kMs, 18},
               {absl::Hours(1000), 18}};
  for (const auto& [age, bucket] : cases) {
    IdleHistogram histogram;
    histogram.Add(age, 512);
    histogram.Add(age, 1);
    EXPECT_EQ(histogram.buckets()[bucket].frame_count, 513) << age;
  }
}

// Scans that take no time unless told to, by a clock of the test's own.
class WorkingSetWatchersTest : public testing::Test {
 protected:
  int64_t Add(absl::Duration interval) {
    const int64_t id = watchers_.Add(
        interval, [this, next = next_++] { ++wakes_[next]; }, now_);
    return id;
  }
  // Runs the scan that is due next, at the time when it is. Returns that time.
  int64_t ScanWhenDue(absl::Duration duration = absl::ZeroDuration()) {
    now_ = watchers_.NextScan();
    const absl::Duration start = now_;
    now_ += duration;
    Answer(start, now_, WorkingSetAt(start));
    return start / kMs;
  }
  void Answer(absl::Duration start, absl::Duration end,
              const absl::StatusOr<WorkingSet>& answer) {
    watchers_.Rest(start, end);
    watchers_.Answer(start, answer);
  }
  static WorkingSet WorkingSetAt(absl::Duration time) {
    return {.scan_time = absl::UnixEpoch() + time, .buckets = {}};
  }
  // When the scan began whose answer the watcher finds; -1 without one.
  int64_t Read(int64_t id) {
    const auto update = watchers_.Read(id);
    EXPECT_TRUE(update.ok()) << update.status();
    if (!update.ok() || !update->working_set.has_value()) return -1;
    return (update->working_set->scan_time - absl::UnixEpoch()) / kMs;
  }

  WorkingSetWatchers watchers_;
  std::map<int, int> wakes_;
  int next_ = 0;
  absl::Duration now_ = 1000 * kMs;
};

TEST_F(WorkingSetWatchersTest, NobodyWatchesNothingIsDue) {
  EXPECT_TRUE(watchers_.empty());
  EXPECT_EQ(watchers_.NextScan(), absl::InfiniteDuration());
}

TEST_F(WorkingSetWatchersTest, OneWatcherGetsAScanAtOnceAndThenOneAnInterval) {
  const int64_t id = Add(250 * kMs);
  EXPECT_LE(watchers_.NextScan(), now_);
  Answer(now_, now_, WorkingSetAt(now_));
  EXPECT_EQ(Read(id), 1000);
  EXPECT_EQ(Read(id), -1) << "once";
  EXPECT_EQ(ScanWhenDue(), 1250);
  EXPECT_EQ(Read(id), 1250);
  EXPECT_EQ(ScanWhenDue(), 1500);
  EXPECT_EQ(wakes_[0], 3);
}

TEST_F(WorkingSetWatchersTest, WatchersShareTheScansOfTheFastest) {
  const int64_t fast = Add(200 * kMs);
  const int64_t slow = Add(500 * kMs);
  Answer(now_, now_, WorkingSetAt(now_));
  EXPECT_EQ(Read(fast), 1000);
  EXPECT_EQ(Read(slow), 1000);
  std::vector<int64_t> scans, fast_got, slow_got;
  for (int i = 0; i < 6; ++i) {
    scans.push_back(ScanWhenDue());
    fast_got.push_back(Read(fast));
    slow_got.push_back(Read(slow));
  }
  EXPECT_EQ(scans, (std::vector<int64_t>{1200, 1400, 1600, 1800, 2000, 2200}));
  EXPECT_EQ(fast_got, scans);
  EXPECT_EQ(slow_got, (std::vector<int64_t>{-1, -1, 1600, -1, -1, 2200}));
}

TEST_F(WorkingSetWatchersTest, TheFastestGoesAndTheOthersSetThePace) {
  const int64_t fast = Add(100 * kMs);
  const int64_t slow = Add(1000 * kMs);
  Answer(now_, now_, WorkingSetAt(now_));
  EXPECT_EQ(ScanWhenDue(), 1100);
  watchers_.Remove(fast);
  EXPECT_EQ(ScanWhenDue(), 2000);
  EXPECT_EQ(Read(slow), 2000);
}

TEST_F(WorkingSetWatchersTest, ANewWatcherGetsAnAnswerThatIsNewEnough) {
  Add(1000 * kMs);
  Answer(now_, now_, WorkingSetAt(now_));
  now_ += 300 * kMs;
  const int64_t patient = Add(300 * kMs);
  EXPECT_EQ(Read(patient), 1000) << "which is 300 ms old";
  const int64_t hasty = Add(200 * kMs);
  EXPECT_EQ(Read(hasty), -1);
  EXPECT_LE(watchers_.NextScan(), now_) << "one is due for it";
}

TEST_F(WorkingSetWatchersTest, AScanOfSomebodyElseIsNobodysBeforeItsTime) {
  const int64_t id = Add(1000 * kMs);
  Answer(now_, now_, WorkingSetAt(now_));
  EXPECT_EQ(Read(id), 1000);
  now_ += 400 * kMs;
  Answer(now_, now_, WorkingSetAt(now_));
  EXPECT_EQ(Read(id), -1);
  EXPECT_EQ(ScanWhenDue(), 2000);
}

TEST_F(WorkingSetWatchersTest, ASlowReaderFindsTheNewestAnswerOnly) {
  const int64_t id = Add(100 * kMs);
  for (int i = 0; i < 50; ++i) ScanWhenDue();
  const int64_t last = ScanWhenDue();
  EXPECT_EQ(Read(id), last);
  EXPECT_EQ(Read(id), -1);
}

TEST_F(WorkingSetWatchersTest, ScansAreApartAndRestAsLongAsTheyTake) {
  Add(100 * kMs);
  Answer(now_, now_ + 10 * kMs, WorkingSetAt(now_));
  EXPECT_EQ(watchers_.EarliestScan(), 1100 * kMs);
  now_ = 1010 * kMs;
  Add(100 * kMs);
  EXPECT_EQ(watchers_.NextScan(), 1100 * kMs);
  EXPECT_EQ(ScanWhenDue(70 * kMs), 1100);
  EXPECT_EQ(watchers_.NextScan(), 1240 * kMs) << "as long as it took";
}

TEST_F(WorkingSetWatchersTest, AFailureIsReadLikeAnAnswerAndNotShownToTheNext) {
  const int64_t id = Add(100 * kMs);
  Answer(now_, now_, absl::InternalError("broken"));
  EXPECT_EQ(wakes_[0], 1);
  EXPECT_EQ(watchers_.Read(id).status().message(), "broken");
  EXPECT_EQ(Read(id), -1);
  EXPECT_EQ(watchers_.NextScan(), 1100 * kMs) << "it is tried again";
  EXPECT_EQ(Read(Add(100 * kMs)), -1);
}

TEST_F(WorkingSetWatchersTest, WhoIsClosedReadsWhatIsLeft) {
  const int64_t id = Add(100 * kMs);
  ScanWhenDue();
  watchers_.Close();
  EXPECT_EQ(wakes_[0], 2);
  auto update = watchers_.Read(id);
  ASSERT_TRUE(update.ok());
  EXPECT_TRUE(update->working_set.has_value());
  EXPECT_TRUE(update->closed);
  update = watchers_.Read(id);
  EXPECT_FALSE(update->working_set.has_value());
  EXPECT_TRUE(update->closed);
  EXPECT_TRUE(watchers_.Read(id + 1)->closed) << "who is not there";
}

}  // namespace
}  // namespace tdp
