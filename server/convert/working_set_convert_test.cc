#include "server/convert/working_set_convert.h"

#include <cstdint>

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "server/testing/errors.h"

namespace tdp::server {
namespace {

TEST(WorkingSetConvertTest, KeepsTheTimeAndEachBucketInItsOrder) {
  const WorkingSet set = {
      .scan_time = absl::FromUnixMillis(1234567),
      .buckets = {{absl::ZeroDuration(), 7},
                  {absl::Milliseconds(100), 0},
                  {absl::Milliseconds(1600), int64_t{1} << 40}}};
  v1::WorkingSet out;
  ToProto(set, &out);
  EXPECT_EQ(out.scan_time().seconds(), 1234);
  EXPECT_EQ(out.scan_time().nanos(), 567'000'000);
  ASSERT_EQ(out.buckets_size(), 3);
  EXPECT_EQ(out.buckets(0).min_age().nanos(), 0);
  EXPECT_EQ(out.buckets(0).frame_count(), 7);
  EXPECT_EQ(out.buckets(1).min_age().nanos(), 100'000'000);
  EXPECT_EQ(out.buckets(2).min_age().seconds(), 1);
  EXPECT_EQ(out.buckets(2).min_age().nanos(), 600'000'000);
  EXPECT_EQ(out.buckets(2).frame_count(), int64_t{1} << 40);
}

absl::StatusOr<absl::Duration> IntervalOf(int64_t seconds, int32_t nanos) {
  google::protobuf::Duration interval;
  interval.set_seconds(seconds);
  interval.set_nanos(nanos);
  return ScanIntervalFrom("interval", true, interval);
}

TEST(WorkingSetConvertTest, TakesAnyDurationAndASecondForNone) {
  EXPECT_EQ(*ScanIntervalFrom("interval", false, {}), absl::Seconds(1));
  EXPECT_EQ(*IntervalOf(0, 0), absl::ZeroDuration());
  EXPECT_EQ(*IntervalOf(2, 500'000'000), absl::Milliseconds(2500));
  EXPECT_EQ(*IntervalOf(-1, -1), -absl::Nanoseconds(1'000'000'001));
  EXPECT_GT(*IntervalOf(INT64_MAX, 0), absl::Hours(1));
}

TEST(WorkingSetConvertTest, RefusesWhatIsNoDuration) {
  EXPECT_EQ(FieldErrorOf(IntervalOf(0, 1'000'000'000).status()),
            "FIELD_INVALID interval");
  EXPECT_EQ(FieldErrorOf(IntervalOf(0, -1'000'000'000).status()),
            "FIELD_INVALID interval");
  EXPECT_EQ(FieldErrorOf(IntervalOf(1, -1).status()), "FIELD_INVALID interval");
  EXPECT_EQ(IntervalOf(-1, 1).status().message(),
            "field interval is -1 seconds and 1 nanos; it must be less than a "
            "second of nanos, of the same sign as the seconds");
}

}  // namespace
}  // namespace tdp::server
