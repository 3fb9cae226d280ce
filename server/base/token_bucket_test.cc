#include "server/base/token_bucket.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace tdp::server {
namespace {

constexpr int64_t kSecond = 1000000000;

TEST(TokenBucketTest, GivesTheBurstAndThenTheRate) {
  TokenBucket bucket(10, 4);
  EXPECT_TRUE(bucket.Take(10, kSecond));
  EXPECT_FALSE(bucket.Take(1, kSecond));
  EXPECT_FALSE(bucket.Take(1, kSecond + kSecond / 4 - 1));
  EXPECT_TRUE(bucket.Take(1, kSecond + kSecond / 4));
  EXPECT_FALSE(bucket.Take(1, kSecond + kSecond / 4));
  EXPECT_FALSE(bucket.Take(5, kSecond + 5 * kSecond / 4));
  EXPECT_TRUE(bucket.Take(4, kSecond + 5 * kSecond / 4));
}

TEST(TokenBucketTest, LosesNoTimeToManySmallSteps) {
  TokenBucket bucket(100, 3);
  ASSERT_TRUE(bucket.Take(100, 0));
  int taken = 0;
  for (int64_t now = 0; now <= 10 * kSecond; now += 7654321) {
    taken += bucket.Take(1, now) ? 1 : 0;
  }
  EXPECT_EQ(taken, 29);
}

TEST(TokenBucketTest, IsFullAgainAfterEnoughTimeAndNeverFuller) {
  TokenBucket bucket(100, 10);
  ASSERT_TRUE(bucket.Take(100, kSecond));
  EXPECT_FALSE(bucket.IsFull(11 * kSecond - 1));
  EXPECT_TRUE(bucket.IsFull(11 * kSecond));
  EXPECT_FALSE(bucket.Take(101, int64_t{1} << 62));
  EXPECT_TRUE(bucket.Take(100, int64_t{1} << 62));
}

TEST(TokenBucketTest, StandsAClockThatStandsStill) {
  TokenBucket bucket(2, 1);
  EXPECT_TRUE(bucket.Take(1, 5));
  EXPECT_TRUE(bucket.Take(1, 4));
  EXPECT_FALSE(bucket.Take(1, 5));
}

}  // namespace
}  // namespace tdp::server
