#include "engine/memory/dirty_log.h"

#include <array>
#include <atomic>
#include <bit>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr uint64_t kFrames = 200;

uint64_t ReadOne(DirtyLog& log, int consumer, int64_t first) {
  uint64_t word = 0;
  EXPECT_TRUE(log.Read(consumer, first, {&word, 1}));
  return word;
}
uint64_t ClearOne(DirtyLog& log, int consumer, int64_t first, uint64_t bits) {
  EXPECT_TRUE(log.Clear(consumer, first, {&bits, 1}));
  return bits;
}
int DirtyCount(DirtyLog& log, int consumer) {
  std::array<uint64_t, 4> words;
  EXPECT_TRUE(log.Read(consumer, 0, absl::MakeSpan(words)));
  int count = 0;
  for (uint64_t word : words) count += std::popcount(word);
  return count;
}

TEST(DirtyLogTest, AMarkIsSeenByEveryConsumerUntilItClearsIt) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(0, /*all_set=*/false).ok());
  ASSERT_TRUE(log.AddConsumer(3, /*all_set=*/false).ok());
  log.Mark(60, 70);
  EXPECT_EQ(DirtyCount(log, 0), 10);
  EXPECT_EQ(ClearOne(log, 0, 0, ~uint64_t{0}), uint64_t{0xf} << 60);
  EXPECT_EQ(ReadOne(log, 0, 0), 0u);
  EXPECT_EQ(ReadOne(log, 0, 64), 0x3fu);
  EXPECT_EQ(DirtyCount(log, 3), 10) << "the other has not cleared";
  log.Mark(61, 62);
  EXPECT_EQ(ReadOne(log, 0, 0), uint64_t{1} << 61);
}

TEST(DirtyLogTest, WordsMayBeginAnywhere) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(0, false).ok());
  log.Mark(0, 1);
  log.Mark(63, 65);
  log.Mark(199, 200);
  EXPECT_EQ(ReadOne(log, 0, -10), uint64_t{1} << 10);
  EXPECT_EQ(ReadOne(log, 0, 60), 0b11000u);
  EXPECT_EQ(ReadOne(log, 0, 190), uint64_t{1} << 9);
  EXPECT_EQ(ReadOne(log, 0, -64), 0u);
  EXPECT_EQ(ReadOne(log, 0, 1000), 0u);
  EXPECT_EQ(ClearOne(log, 0, 60, 0b01111), 0b01000u);
  EXPECT_EQ(ReadOne(log, 0, 60), 0b10000u);
  EXPECT_EQ(ClearOne(log, 0, -10, ~uint64_t{0}), uint64_t{1} << 10);
  EXPECT_EQ(ClearOne(log, 0, 190, ~uint64_t{0}), uint64_t{1} << 9);
  EXPECT_EQ(DirtyCount(log, 0), 1);
}

TEST(DirtyLogTest, AllSetSetsTheFramesAndNoMore) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(1, /*all_set=*/true).ok());
  EXPECT_EQ(DirtyCount(log, 1), static_cast<int>(kFrames));
}

TEST(DirtyLogTest, AConsumerThatWasRemovedIsUnknownAndComesBackEmpty) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(0, true).ok());
  log.RemoveAllConsumers();
  uint64_t word = 0;
  EXPECT_FALSE(log.Read(0, 0, {&word, 1}));
  EXPECT_FALSE(log.Clear(0, 0, {&word, 1}));
  log.Mark(0, kFrames);
  ASSERT_TRUE(log.AddConsumer(0, false).ok());
  EXPECT_EQ(DirtyCount(log, 0), 0);
}

// Every bit that a marker sets is cleared once, by one of two clearers.
TEST(DirtyLogTest, MarksAndClearsInParallelLoseNothing) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(0, false).ok());
  std::atomic<bool> done{false};
  std::atomic<int> cleared{0};
  std::vector<std::thread> clearers;
  for (int t = 0; t < 2; ++t) {
    clearers.emplace_back([&, t] {
      while (!done) {
        cleared += std::popcount(ClearOne(log, 0, 30 + t, ~uint64_t{0}));
      }
    });
  }
  int marked = 0;
  for (int i = 0; i < 20000; ++i) {
    const uint64_t frame = 31 + static_cast<uint64_t>(i % 60);
    if ((ReadOne(log, 0, static_cast<int64_t>(frame)) & 1) != 0) continue;
    log.Mark(frame, frame + 1);
    ++marked;
  }
  done = true;
  for (std::thread& clearer : clearers) clearer.join();
  EXPECT_EQ(cleared + DirtyCount(log, 0), marked);
}

TEST(DirtyLogTest, ConsumersComeAndGoWhileFramesAreMarked) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(0, false).ok());
  std::atomic<bool> done{false};
  std::thread marker([&] {
    do {
      log.Mark(0, kFrames);
    } while (!done);
  });
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(log.AddConsumer(5, false).ok());
    log.RemoveConsumer(5);
  }
  done = true;
  marker.join();
  EXPECT_EQ(DirtyCount(log, 0), static_cast<int>(kFrames));
}

}  // namespace
}  // namespace tdp
