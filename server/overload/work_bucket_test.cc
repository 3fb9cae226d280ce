#include "server/overload/work_bucket.h"

#include <limits>

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST(WorkBucketTest, ABurstIsFreeAndOneUnitMoreIsADebt) {
  WorkBucket bucket(1000, 2);
  EXPECT_TRUE(bucket.full(kSecond));
  bucket.Take(kSecond, 2000);
  EXPECT_FALSE(bucket.full(kSecond));
  EXPECT_EQ(bucket.Delay(kSecond), absl::ZeroDuration());
  bucket.Take(kSecond, 1);
  EXPECT_EQ(bucket.Delay(kSecond), absl::Milliseconds(1));
  EXPECT_EQ(bucket.Delay(kSecond + kSecond / 1000), absl::ZeroDuration());
  EXPECT_FALSE(bucket.full(3 * kSecond));
  EXPECT_TRUE(bucket.full(3 * kSecond + kSecond / 1000));
}

TEST(WorkBucketTest, NothingAndLessThanNothingCostNothing) {
  WorkBucket bucket(1000, 2);
  bucket.Take(kSecond, 0);
  bucket.Take(kSecond, -1);
  bucket.Take(kSecond, std::numeric_limits<int64_t>::min());
  EXPECT_TRUE(bucket.full(kSecond));
}

TEST(WorkBucketTest, NoSumOfDebtsIsLongerThanABurstTakes) {
  for (const int64_t rate : {int64_t{1}, int64_t{1} << 28, int64_t{1} << 40}) {
    WorkBucket bucket(rate, 2);
    for (int i = 0; i < 10; ++i) {
      bucket.Take(kSecond, std::numeric_limits<int64_t>::max());
      EXPECT_EQ(bucket.Delay(kSecond), absl::Seconds(2)) << rate;
    }
  }
}

TEST(WorkBucketTest, ATimeBeforeTheLastGivesNothingBack) {
  WorkBucket bucket(1000, 2);
  bucket.Take(10 * kSecond, 4000);
  bucket.Take(kSecond, 1);
  EXPECT_EQ(bucket.Delay(10 * kSecond), absl::Seconds(2));
}

}  // namespace
}  // namespace tdp::server
