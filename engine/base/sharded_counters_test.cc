#include "engine/base/sharded_counters.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

namespace tdp {
namespace {

enum class TestCounter { kFirst, kSecond, kCount };

TEST(ShardedCountersTest, SumsWhatAllThreadsAdded) {
  constexpr int kThreads = 8;
  constexpr int kTurns = 10000;
  ShardedCounters<TestCounter> counters;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < kTurns; ++k) {
        counters.Add(TestCounter::kFirst, 1);
        counters.Add(TestCounter::kSecond, -2);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counters.Read(TestCounter::kFirst), kThreads * kTurns);
  EXPECT_EQ(counters.Read(TestCounter::kSecond), -2 * kThreads * kTurns);
}

TEST(ShardedCountersTest, LosesNothingWithMoreThreadsThanShards) {
  constexpr int kThreads = 3 * static_cast<int>(CounterShard::kCount);
  constexpr int kTurns = 1000;
  ShardedCounters<TestCounter> counters;
  std::atomic<int> present{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      counters.Add(TestCounter::kFirst, 1);
      ++present;
      // All at once, so that some have to share.
      while (present.load() < kThreads) std::this_thread::yield();
      for (int k = 1; k < kTurns; ++k) counters.Add(TestCounter::kFirst, 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counters.Read(TestCounter::kFirst), kThreads * kTurns);
}

TEST(ShardedCountersTest, AShardIsOwnedByOneThreadAndGivenBackAtItsEnd) {
  const size_t mine = CounterShard::OfThread();
  EXPECT_EQ(CounterShard::OfThread(), mine);
  std::set<size_t> used;
  for (int i = 0; i < 3 * static_cast<int>(CounterShard::kCount); ++i) {
    std::thread([&] { used.insert(CounterShard::OfThread()); }).join();
  }
  EXPECT_EQ(used.count(mine), 0u);
  EXPECT_EQ(used.size(), 1u) << "threads that ended gave theirs back";
  EXPECT_NE(*used.begin(), CounterShard::kShared);
}

}  // namespace
}  // namespace tdp
