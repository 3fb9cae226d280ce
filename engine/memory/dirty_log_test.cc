#include "engine/memory/dirty_log.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr uint64_t kFrames = 200;

using Answer = DirtyLog::Answer;

// Where the memslot lies.
constexpr Gfn kBase(1000);

DirtyConsumer At(int place) {
  return {.place = place, .id = static_cast<uint64_t>(place) + 1};
}
// Both count `first` from the memslot's start.
uint64_t ReadOne(DirtyLog& log, int place, int64_t first) {
  uint64_t word = 0;
  EXPECT_EQ(
      log.Read(At(place), kBase,
               Gfn(kBase.value() + static_cast<uint64_t>(first)), {&word, 1}),
      Answer::kDone);
  return word;
}
uint64_t ClearOne(DirtyLog& log, int place, int64_t first, uint64_t bits) {
  EXPECT_EQ(
      log.Clear(At(place), kBase,
                Gfn(kBase.value() + static_cast<uint64_t>(first)), {&bits, 1}),
      Answer::kDone);
  return bits;
}
int DirtyCount(DirtyLog& log, int place) {
  std::array<uint64_t, 4> words;
  EXPECT_EQ(log.Read(At(place), kBase, kBase, absl::MakeSpan(words)),
            Answer::kDone);
  int count = 0;
  for (uint64_t word : words) count += std::popcount(word);
  return count;
}

TEST(DirtyLogTest, AMarkIsSeenByEveryConsumerUntilItClearsIt) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(At(0), /*all_set=*/false).ok());
  ASSERT_TRUE(log.AddConsumer(At(3), /*all_set=*/false).ok());
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
  ASSERT_TRUE(log.AddConsumer(At(0), false).ok());
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
  ASSERT_TRUE(log.AddConsumer(At(1), /*all_set=*/true).ok());
  EXPECT_EQ(DirtyCount(log, 1), static_cast<int>(kFrames));
}

TEST(DirtyLogTest, AConsumerThatWasRemovedIsUnknownAndComesBackEmpty) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(At(0), true).ok());
  log.RemoveAllConsumers();
  uint64_t word = 0;
  EXPECT_EQ(log.Read(At(0), kBase, kBase, {&word, 1}), Answer::kNoConsumer);
  EXPECT_EQ(log.Clear(At(0), kBase, kBase, {&word, 1}), Answer::kNoConsumer);
  log.Mark(0, kFrames);
  ASSERT_TRUE(log.AddConsumer(At(0), false).ok());
  EXPECT_EQ(DirtyCount(log, 0), 0);
}

TEST(DirtyLogTest, WhoeverTakesOverAPlaceIsNotReadOrClearedByItsPredecessor) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(At(0), /*all_set=*/true).ok());
  const DirtyConsumer gone = {.place = 0, .id = 77};
  uint64_t word = ~uint64_t{0};
  EXPECT_EQ(log.Read(gone, kBase, kBase, {&word, 1}), Answer::kNoConsumer);
  EXPECT_EQ(log.Clear(gone, kBase, kBase, {&word, 1}), Answer::kNoConsumer);
  EXPECT_EQ(DirtyCount(log, 0), static_cast<int>(kFrames));
}

TEST(DirtyLogTest, AClearOfWhatWasReadBeforeAMoveIsRefused) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(At(0), /*all_set=*/true).ok());
  ASSERT_TRUE(log.AddConsumer(At(1), /*all_set=*/true).ok());
  EXPECT_EQ(ReadOne(log, 0, 0), ~uint64_t{0});
  const Gfn moved = kBase + 8;
  uint64_t word = ~uint64_t{0};
  EXPECT_EQ(log.Clear(At(0), moved, moved, {&word, 1}), Answer::kMoved);
  EXPECT_EQ(DirtyCount(log, 0), static_cast<int>(kFrames));
  // It reads where the memslot lies now, and may clear that.
  EXPECT_EQ(log.Read(At(0), moved, moved, {&word, 1}), Answer::kDone);
  EXPECT_EQ(log.Clear(At(0), moved, moved, {&word, 1}), Answer::kDone);
  EXPECT_EQ(DirtyCount(log, 0), static_cast<int>(kFrames) - 64);
  // Who has not read names the frames as they lie.
  word = ~uint64_t{0};
  EXPECT_EQ(log.Clear(At(1), moved, moved, {&word, 1}), Answer::kDone);
}

TEST(DirtyLogTest, AHarvestMarksForEveryConsumerAndForgetsNothing) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(At(0), false).ok());
  ASSERT_TRUE(log.AddConsumer(At(2), false).ok());
  log.Mark(3, 4);
  const auto take = [](absl::Span<uint64_t> words) {
    EXPECT_EQ(words.size(), 4u);
    std::fill(words.begin(), words.end(), 0);
    words[0] = 0b110;
    words[3] = 1;
    return absl::OkStatus();
  };
  ASSERT_TRUE(log.Harvest(take).ok());
  EXPECT_EQ(ReadOne(log, 0, 0), 0b1110u);
  EXPECT_EQ(ReadOne(log, 2, 192), 1u);
  EXPECT_EQ(ClearOne(log, 2, 0, ~uint64_t{0}), 0b1110u);
  ASSERT_TRUE(log.Harvest(take).ok());
  EXPECT_EQ(ReadOne(log, 2, 0), 0b110u);
  const auto break_off = [](absl::Span<uint64_t> words) {
    std::fill(words.begin(), words.end(), 0);
    words[0] = 0b1;
    return absl::AbortedError("");
  };
  EXPECT_FALSE(log.Harvest(break_off).ok());
  EXPECT_EQ(ReadOne(log, 2, 0), 0b111u) << "it is not taken again";
}

// Every bit that a marker sets is cleared once, by one of two clearers.
TEST(DirtyLogTest, MarksAndClearsInParallelLoseNothing) {
  DirtyLog log(kFrames);
  ASSERT_TRUE(log.AddConsumer(At(0), false).ok());
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
  ASSERT_TRUE(log.AddConsumer(At(0), false).ok());
  std::atomic<bool> done{false};
  std::thread marker([&] {
    do {
      log.Mark(0, kFrames);
    } while (!done);
  });
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(log.AddConsumer(At(5), false).ok());
    log.RemoveConsumer(At(5));
  }
  done = true;
  marker.join();
  EXPECT_EQ(DirtyCount(log, 0), static_cast<int>(kFrames));
}

}  // namespace
}  // namespace tdp
