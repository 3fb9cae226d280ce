#include "server/access/reload_thread.h"

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

TEST(ReloadThreadTest, CallsEachRefreshAgainAndAgain) {
  constexpr int kRounds = 2;
  int first = 0;
  int second = 0;
  absl::Notification done;
  {
    const ReloadThread thread({[&] { ++first; },
                               [&] {
                                 if (++second == kRounds) done.Notify();
                               }});
    done.WaitForNotification();
  }
  EXPECT_GE(first, second);
  EXPECT_GE(second, kRounds);
}

TEST(ReloadThreadTest, EndsWithoutWaitingForItsTurn) {
  for (int i = 0; i < 100; ++i) const ReloadThread thread({});
}

}  // namespace
}  // namespace tdp::server
