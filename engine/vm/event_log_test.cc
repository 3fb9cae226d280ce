#include "engine/vm/event_log.h"

#include <atomic>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

VcpuExitedEvent Exit(int index) {
  return {.vcpu_index = index, .reason = "HLT"};
}

TEST(EventLogTest, EventsComeInOrderFromOneOn) {
  EventLog log;
  for (int i = 0; i < 5; ++i) log.Append(Exit(i));
  const EventBatch first = *log.Read(1, 3);
  ASSERT_EQ(first.events.size(), 3u);
  EXPECT_EQ(first.events[0].sequence, 1);
  EXPECT_EQ(first.next_sequence, 4);
  const EventBatch rest = *log.Read(first.next_sequence, 100);
  EXPECT_EQ(rest.events.size(), 2u);
  EXPECT_EQ(rest.next_sequence, 6);
  EXPECT_TRUE(log.Read(6, 100)->events.empty());
  EXPECT_EQ(log.Read(0, 100)->next_sequence, 6);
}

TEST(EventLogTest, EventsThatAreNoLongerKeptAreAnError) {
  EventLog log;
  for (int i = 0; i < limits::kMaxKeptEvents + 2; ++i) log.Append(Exit(i));
  const absl::Status status = log.Read(2, 10).status();
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kEventsTruncated);
  const EventBatch oldest = *log.Read(3, 1);
  EXPECT_EQ(oldest.events[0].sequence, 3);
}

TEST(EventLogTest, NegativeStartAndOneInTheFutureAreRefused) {
  EventLog log;
  EXPECT_TRUE(log.Read(1, 1).ok());
  EXPECT_EQ(DetailOf(log.Read(2, 1).status())->reason,
            ErrorReason::kFieldInvalid);
  EXPECT_EQ(DetailOf(log.Read(-1, 1).status())->reason,
            ErrorReason::kFieldInvalid);
}

TEST(EventLogTest, ListenersHearAppendAndCloseUntilRemoved) {
  EventLog log;
  int heard = 0;
  const int64_t id = log.AddListener([&] { ++heard; });
  log.Append(Exit(0));
  log.Close();
  EXPECT_EQ(heard, 2);
  log.RemoveListener(id);
  log.Append(Exit(1));
  EXPECT_EQ(heard, 2);
  EXPECT_TRUE(log.Read(1, 10)->closed);
}

// Writers append while a reader follows by next_sequence: it sees every event
// once and in order.
TEST(EventLogTest, FollowerMissesNothing) {
  EventLog log;
  constexpr int kWriters = 3;
  constexpr int kEach = 2000;
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) log.Append(Exit(i));
    });
  }
  int64_t next = 1;
  while (next <= kWriters * kEach) {
    const EventBatch batch = *log.Read(next, 64);
    for (const Event& event : batch.events) {
      ASSERT_EQ(event.sequence, next);
      ++next;
    }
  }
  for (std::thread& writer : writers) writer.join();
}

}  // namespace
}  // namespace tdp
