#include "engine/vm/task_thread.h"

#include <atomic>
#include <future>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

TEST(TaskThreadTest, TasksRunInTheOrderOfTheirTimes) {
  TaskThread thread;
  ASSERT_TRUE(thread.Start("test").ok());
  std::promise<void> begin;
  std::promise<void> end;
  std::vector<int> order;
  thread.Run([&] { begin.get_future().wait(); });
  const absl::Time now = absl::Now();
  thread.RunAt(now + absl::Milliseconds(2), [&] {
    order.push_back(2);
    end.set_value();
  });
  thread.RunAt(now + absl::Milliseconds(1), [&] { order.push_back(1); });
  thread.Run([&] { order.push_back(0); });
  begin.set_value();
  end.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2}));
}

TEST(TaskThreadTest, ACancelledTaskDoesNotRunAndItsTwinDoes) {
  TaskThread thread;
  std::promise<void> end;
  bool ran = false;
  const absl::Time soon = absl::Now() + absl::Milliseconds(1);
  const TaskThread::TaskId task = thread.RunAt(soon, [&] { ran = true; });
  thread.RunAt(soon, [&] { end.set_value(); });
  thread.Cancel(task);
  thread.Cancel(task);
  ASSERT_TRUE(thread.Start("test").ok());
  end.get_future().wait();
  EXPECT_FALSE(ran);
}

TEST(TaskThreadTest, StopDropsWhatHasNotBegun) {
  std::atomic<bool> ran{false};
  TaskThread thread;
  ASSERT_TRUE(thread.Start("test").ok());
  thread.RunAt(absl::InfiniteFuture(), [&] { ran = true; });
  thread.Stop();
  thread.Run([&] { ran = true; });
  thread.Stop();
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace tdp
