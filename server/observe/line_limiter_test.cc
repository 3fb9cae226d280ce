#include "server/observe/line_limiter.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace tdp::server {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
constexpr int64_t kSecond = 1000 * kMillisecond;
constexpr int64_t kNow = 7 * kSecond;

int Admitted(LineLimiter& limiter, uint64_t peer, int asked, int64_t now) {
  int admitted = 0;
  for (int i = 0; i < asked; ++i) {
    admitted += limiter.Ask(peer, now).admitted ? 1 : 0;
  }
  return admitted;
}

TEST(LineLimiterTest, AdmitsSoManyLinesAtOnceAndThenSoManyASecond) {
  LineLimiter limiter(10);
  EXPECT_EQ(Admitted(limiter, 1, 100, kNow), 10);
  EXPECT_EQ(Admitted(limiter, 1, 100, kNow + 99 * kMillisecond), 0);
  EXPECT_EQ(Admitted(limiter, 1, 100, kNow + 500 * kMillisecond), 5);
  EXPECT_EQ(Admitted(limiter, 1, 100, kNow + 3600 * kSecond), 10);
  EXPECT_EQ(limiter.left_out_count(), 90 + 100 + 95 + 90);
}

TEST(LineLimiterTest, TellsOnceHowManyLinesItLeftOut) {
  LineLimiter limiter(1);
  EXPECT_EQ(limiter.Ask(1, kNow).left_out, 0);
  EXPECT_EQ(Admitted(limiter, 1, 7, kNow), 0);
  EXPECT_EQ(limiter.Ask(1, kNow + 2 * kSecond).left_out, 7);
  EXPECT_EQ(limiter.Ask(1, kNow + 4 * kSecond).left_out, 0);
}

TEST(LineLimiterTest, LetsNoPeerTakeAnothersLines) {
  LineLimiter limiter(10);
  EXPECT_EQ(Admitted(limiter, 1, 1000, kNow), 10);
  EXPECT_EQ(Admitted(limiter, 2, 10, kNow), 10);
}

TEST(LineLimiterTest, RemembersABoundedNumberOfPeers) {
  LineLimiter limiter(10);
  for (uint64_t peer = 0; peer < LineLimiter::kMaxPeers; ++peer) {
    EXPECT_EQ(Admitted(limiter, peer, 1, kNow), 1);
  }
  // Those beyond are as one, while none of the others can be forgotten.
  EXPECT_EQ(Admitted(limiter, 5000, 7, kNow), 7);
  EXPECT_EQ(Admitted(limiter, 5001, 7, kNow), 3);
  EXPECT_EQ(Admitted(limiter, 5002, 7, kNow + 60 * kSecond), 7);
  EXPECT_EQ(Admitted(limiter, 5003, 10, kNow + 60 * kSecond), 10);
}

}  // namespace
}  // namespace tdp::server
