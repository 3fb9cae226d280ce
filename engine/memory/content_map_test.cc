#include "engine/memory/content_map.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <vector>

#include "engine/memory/memory_test_util.h"

namespace tdp {
namespace {

using Piece = ContentMap::Piece;
using State = ContentMap::State;
using Want = ContentMap::Want;

std::unique_ptr<ContentMap> MakeMap(uint64_t frames) {
  absl::StatusOr<std::unique_ptr<ContentMap>> map = ContentMap::Create(frames);
  EXPECT_TRUE(map.ok()) << map.status();
  return *std::move(map);
}

void ExpectState(const ContentMap& map, uint64_t first, uint64_t end,
                 State state) {
  const Piece piece = map.Look(first, end);
  EXPECT_EQ(piece.count, end - first);
  EXPECT_EQ(piece.state, state);
}

TEST(ContentMapTest, AClaimedFrameIsReadyOnceFinished) {
  const auto map = MakeMap(1000);
  ExpectState(*map, 0, 1000, State::kMissing);
  const Piece piece = map->Take(10, 20, Want::kMissing);
  EXPECT_TRUE(piece.claimed);
  EXPECT_EQ(piece.count, 10u);
  EXPECT_EQ(piece.state, State::kMissing);
  ExpectState(*map, 10, 20, State::kMissing);
  map->Finish(10, 20, State::kReady);
  ExpectState(*map, 10, 20, State::kReady);
  EXPECT_EQ(map->Look(0, 1000).count, 10u);
  EXPECT_EQ(map->Look(20, 1000).count, 980u);
}

TEST(ContentMapTest, ReadyFramesAreReportedAndNotClaimed) {
  const auto map = MakeMap(1000);
  map->Take(100, 200, Want::kMissing);
  map->Finish(100, 200, State::kReady);
  Piece piece = map->Take(50, 300, Want::kMissing);
  EXPECT_EQ(piece.count, 50u);
  map->Finish(50, 100, State::kReady);
  piece = map->Take(100, 300, Want::kMissing);
  EXPECT_FALSE(piece.claimed);
  EXPECT_EQ(piece.count, 100u);
  EXPECT_EQ(piece.state, State::kReady);
}

// Every run around the edges of the bitmap's words is claimed exactly.
TEST(ContentMapTest, RunsAcrossWordEdgesAreExact) {
  for (uint64_t first = 60; first <= 68; ++first) {
    for (const uint64_t count : {1, 3, 60, 64, 65, 128, 512}) {
      const auto map = MakeMap(640);
      const Piece piece = map->Take(first, first + count, Want::kMissing);
      ASSERT_EQ(piece.count, count);
      map->Finish(first, first + count, State::kReady);
      ExpectState(*map, 0, first, State::kMissing);
      ExpectState(*map, first, first + count, State::kReady);
      if (first + count < 640) {
        ExpectState(*map, first + count, 640, State::kMissing);
      }
    }
  }
}

TEST(ContentMapTest, TheFirstAndTheLastFrameAreLikeAnyOther) {
  const uint64_t frames = uint64_t{1} << 34;  // 64 TiB of guest memory
  const auto map = MakeMap(frames);
  for (const uint64_t frame : {uint64_t{0}, frames - 1}) {
    EXPECT_TRUE(map->Take(frame, frame + 1, Want::kMissing).claimed);
    map->Finish(frame, frame + 1, State::kReady);
    ExpectState(*map, frame, frame + 1, State::kReady);
  }
}

TEST(ContentMapTest, APieceEndsBeforeAClaimOfAnother) {
  const auto map = MakeMap(1000);
  ASSERT_EQ(map->Take(150, 160, Want::kMissing).count, 10u);
  Piece piece;
  Runner other([&] { piece = map->Take(100, 200, Want::kMissing); });
  other.Join();
  EXPECT_EQ(piece.count, 50u);
}

TEST(ContentMapTest, AFailedLoadLeavesTheRestToTheNextLoader) {
  const auto map = MakeMap(100);
  map->Take(0, 100, Want::kMissing);
  map->Finish(0, 30, State::kReady);
  map->Finish(30, 100, State::kMissing);
  const Piece piece = map->Take(30, 100, Want::kMissing);
  EXPECT_TRUE(piece.claimed);
  EXPECT_EQ(piece.count, 70u);
}

TEST(ContentMapTest, WhoWantsAClaimedFrameWaitsForItsEnd) {
  const auto map = MakeMap(100);
  map->Take(0, 100, Want::kMissing);
  Piece piece;
  Runner other([&] { piece = map->Take(5, 6, Want::kMissing); });
  other.WaitUntilAsleep();
  EXPECT_FALSE(other.done());
  map->Finish(0, 100, State::kReady);
  other.Join();
  EXPECT_FALSE(piece.claimed);
  EXPECT_EQ(piece.state, State::kReady);
}

TEST(ContentMapTest, AClaimOnReadyFramesKeepsThemReady) {
  const auto map = MakeMap(100);
  map->Take(0, 100, Want::kMissing);
  map->Finish(0, 100, State::kReady);
  const Piece piece = map->Take(0, 50, Want::kAll);
  EXPECT_TRUE(piece.claimed);
  EXPECT_EQ(piece.state, State::kReady);
  // A loader need not wait for a writer.
  EXPECT_FALSE(map->Take(0, 100, Want::kMissing).claimed);
  map->Finish(0, 50, State::kMissing);
  ExpectState(*map, 0, 50, State::kMissing);
  ExpectState(*map, 50, 100, State::kReady);
}

// Threads load overlapping random runs and discard others. Each frame has a
// plain counter that only its claimer changes; ThreadSanitizer watches.
TEST(ContentMapTest, NoFrameHasTwoClaimersAtATime) {
  constexpr uint64_t kFrames = 5;
  const auto map = MakeMap(kFrames);
  std::vector<int> owners(kFrames, 0);
  std::vector<int> loaded(kFrames, 0);
  std::atomic<int> failures{0};
  const auto work = [&](uint32_t seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 300000; ++i) {
      uint64_t first = random() % kFrames;
      const uint64_t end = std::min(kFrames, first + 1 + random() % 3);
      const Want want = i % 4 == 0 ? Want::kAll : Want::kMissing;
      while (first < end) {
        const Piece piece = map->Take(first, end, want);
        if (piece.claimed) {
          for (uint64_t f = first; f < first + piece.count; ++f) {
            if (owners[f]++ != 0) ++failures;
            const bool was_loaded = loaded[f] != 0;
            if (was_loaded != (piece.state == State::kReady)) ++failures;
            loaded[f] = want == Want::kMissing;
            --owners[f];
          }
          map->Finish(first, first + piece.count,
                      want == Want::kMissing ? State::kReady : State::kMissing);
        }
        first += piece.count;
      }
    }
  };
  {
    Runner first([&] { work(1); });
    Runner second([&] { work(2); });
    work(3);
  }
  EXPECT_EQ(failures.load(), 0);
}

}  // namespace
}  // namespace tdp
