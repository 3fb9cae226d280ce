#include "server/base/executor.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <vector>

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
TEST(ExecutorTest, OnlyTheBulkLaneRunsBelowTheDaemonsPriority) {
  const int mine = getpriority(PRIO_PROCESS, 0);
  Executor executor({.thread_count = 1, .bulk_nice = 3});
  int control = -100;
  int bulk = -100;
  ASSERT_TRUE(executor.Post([&] { control = getpriority(PRIO_PROCESS, 0); }));
  ASSERT_TRUE(executor.Continue({.lane = Executor::Lane::kBulk},
                                [&] { bulk = getpriority(PRIO_PROCESS, 0); }));
  executor.Shutdown();
  EXPECT_EQ(control, mine);
  EXPECT_EQ(bulk, std::min(mine + 3, 19));
}

// A lane whose only thread is held until Release().
class HeldExecutorTest : public testing::Test {
 protected:
  using Admission = Executor::Admission;
  static constexpr Executor::Lane kBulk = Executor::Lane::kBulk;

  void Hold(Executor::Options options) {
    options.thread_count = 1;
    executor_ = std::make_unique<Executor>(options);
    absl::Notification started;
    ASSERT_TRUE(executor_->Continue({.lane = kBulk, .peer = 99}, [&] {
      started.Notify();
      release_.WaitForNotification();
    }));
    started.WaitForNotification();
  }
  Admission Submit(uint64_t peer) {
    return executor_->Submit({.lane = kBulk, .peer = peer},
                             [this, peer] { order_.push_back(peer); });
  }
  void RunAll() {
    release_.Notify();
    executor_->Shutdown();
  }

  absl::Notification release_;
  std::vector<uint64_t> order_;  // of the peers whose tasks ran
  std::unique_ptr<Executor> executor_;
};

TEST_F(HeldExecutorTest, AThousandCallsOfOnePeerDelayAnotherByNoneOfThem) {
  Hold({});
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(Submit(1), Admission::kAccepted);
  ASSERT_EQ(Submit(2), Admission::kAccepted);
  ASSERT_EQ(Submit(3), Admission::kAccepted);
  ASSERT_EQ(Submit(2), Admission::kAccepted);
  RunAll();
  ASSERT_EQ(order_.size(), 1003u);
  order_.resize(7);
  EXPECT_EQ(order_, (std::vector<uint64_t>{1, 2, 3, 1, 2, 1, 1}));
}

TEST_F(HeldExecutorTest, NextStepsOfAStreamTakeTurnsToo) {
  Hold({});
  absl::Notification done;
  // A stream with many steps, each of which queues the next.
  std::function<void()> step = [&] {
    order_.push_back(1);
    if (order_.size() >= 8) return done.Notify();
    EXPECT_TRUE(executor_->Continue({.lane = kBulk, .peer = 1}, step));
  };
  ASSERT_EQ(executor_->Submit({.lane = kBulk, .peer = 1}, step),
            Admission::kAccepted);
  ASSERT_EQ(Submit(2), Admission::kAccepted);
  ASSERT_EQ(Submit(2), Admission::kAccepted);
  release_.Notify();
  done.WaitForNotification();
  executor_->Shutdown();
  order_.resize(4);
  EXPECT_EQ(order_, (std::vector<uint64_t>{1, 2, 1, 2}));
}

TEST_F(HeldExecutorTest, APeersPartOfTheQueueIsBounded) {
  Hold({.max_queued = 3, .max_queued_per_peer = 2});
  EXPECT_EQ(Submit(1), Admission::kAccepted);
  EXPECT_EQ(Submit(1), Admission::kAccepted);
  EXPECT_EQ(Submit(1), Admission::kPeerQueueFull);
  EXPECT_EQ(Submit(2), Admission::kAccepted);
  EXPECT_EQ(Submit(2), Admission::kQueueFull);
  EXPECT_TRUE(executor_->Continue({.lane = kBulk, .peer = 1}, [this] {
    order_.push_back(1);
  })) << "what was let in goes on";
  RunAll();
  EXPECT_EQ(order_, (std::vector<uint64_t>{1, 2, 1, 1}));
}

TEST_F(HeldExecutorTest, NextStepsFillNobodysPartOfTheQueue) {
  Hold({.max_queued = 2, .max_queued_per_peer = 1});
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(executor_->Continue({.lane = kBulk, .peer = 1}, [] {}));
  }
  EXPECT_EQ(Submit(1), Admission::kAccepted);
  EXPECT_EQ(Submit(1), Admission::kPeerQueueFull);
  EXPECT_EQ(Submit(2), Admission::kAccepted);
  EXPECT_EQ(Submit(3), Admission::kQueueFull);
  EXPECT_EQ(executor_->queued_count(), 102u);
  RunAll();
  EXPECT_EQ(order_, (std::vector<uint64_t>{2, 1}));
}

TEST_F(HeldExecutorTest, AFewTasksAreEveryPeersOwn) {
  Hold({.max_queued = 512, .max_queued_per_peer = 256});
  for (int i = 0; i < 256; ++i) {
    ASSERT_EQ(Submit(1), Admission::kAccepted);
    ASSERT_EQ(Submit(2), Admission::kAccepted);
  }
  EXPECT_EQ(Submit(3), Admission::kAccepted);
  EXPECT_EQ(Submit(3), Admission::kAccepted);
  EXPECT_EQ(Submit(3), Admission::kQueueFull);
  EXPECT_EQ(Submit(4), Admission::kAccepted);
  RunAll();
  EXPECT_EQ(order_.size(), 515u);
}

TEST_F(HeldExecutorTest, ControlWorkDoesNotWaitForBulkWork) {
  Hold({});
  absl::Notification ran;
  ASSERT_TRUE(executor_->TryPost([&] { ran.Notify(); }));
  ran.WaitForNotification();
  RunAll();
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
