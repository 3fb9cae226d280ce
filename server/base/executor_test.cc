#include "server/base/executor.h"

#include <sys/resource.h>

#include <atomic>
#include <memory>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace tdp::server {
namespace {

TEST(ExecutorTest, RunsWhatIsPosted) {
  Executor executor({.thread_count = 2});
  absl::Notification ran;
  ASSERT_TRUE(executor.TryPost([&] { ran.Notify(); }));
  ran.WaitForNotification();
}

TEST(ExecutorTest, RefusesNewWorkWhenTheQueueIsFull) {
  Executor executor({.thread_count = 1, .max_queued = 2});
  absl::Notification started;
  absl::Notification release;
  ASSERT_TRUE(executor.TryPost([&] {
    started.Notify();
    release.WaitForNotification();
  }));
  started.WaitForNotification();
  std::atomic<int> ran = 0;
  EXPECT_TRUE(executor.TryPost([&] { ++ran; }));
  EXPECT_TRUE(executor.TryPost([&] { ++ran; }));
  EXPECT_FALSE(executor.TryPost([&] { ++ran; }));
  EXPECT_TRUE(executor.Post([&] { ++ran; })) << "a continuation is let in";
  release.Notify();
  executor.Shutdown();
  EXPECT_EQ(ran, 3);
}

TEST(ExecutorTest, ShutdownRunsWhatIsQueuedAndRefusesTheRest) {
  Executor executor({.thread_count = 1});
  std::atomic<int> ran = 0;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(executor.Post([&] { ++ran; }));
  executor.Shutdown();
  EXPECT_EQ(ran, 100);
  EXPECT_FALSE(executor.TryPost([&] { ++ran; }));
  EXPECT_FALSE(executor.Post([&] { ++ran; }));
  executor.Shutdown();
}

// vCPU and pager threads are created by tasks, and inherit their priority.
TEST(ExecutorTest, TasksRunAtTheDaemonsPriority) {
  const int mine = getpriority(PRIO_PROCESS, 0);
  Executor executor({.thread_count = 1});
  int theirs = mine + 1;
  ASSERT_TRUE(executor.Post([&] { theirs = getpriority(PRIO_PROCESS, 0); }));
  executor.Shutdown();
  EXPECT_EQ(theirs, mine);
}

TEST(ExecutorTest, DropsWhatATaskHeldBeforeItTakesTheNext) {
  Executor executor({.thread_count = 1});
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> watched = held;
  ASSERT_TRUE(executor.Post([held = std::move(held)] {}));
  bool expired = false;
  ASSERT_TRUE(executor.Post([&] { expired = watched.expired(); }));
  executor.Shutdown();
  EXPECT_TRUE(expired);
}

}  // namespace
}  // namespace tdp::server
