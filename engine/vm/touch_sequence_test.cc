#include "engine/vm/touch_sequence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

namespace tdp {
namespace {

constexpr TouchPattern kPatterns[] = {
    TouchPattern::kSequential, TouchPattern::kShuffled, TouchPattern::kUniform,
    TouchPattern::kHotTenth};

TouchGuestConfig Config(TouchPattern pattern, uint64_t frames,
                        int64_t passes = 1, uint64_t seed = 1) {
  return {.range = {Gfn(0x100), Gfn(0x100) + frames},
          .pattern = pattern,
          .write = true,
          .pass_count = passes,
          .seed = seed};
}

std::vector<Touch> AllOf(const TouchGuestConfig& config) {
  TouchSequence sequence(config);
  std::vector<Touch> touches;
  Touch touch;
  while (sequence.Next(&touch)) touches.push_back(touch);
  EXPECT_FALSE(sequence.Next(&touch));
  return touches;
}

std::vector<uint64_t> IndexesOf(const TouchGuestConfig& config) {
  std::vector<uint64_t> indexes;
  for (const Touch& touch : AllOf(config)) {
    indexes.push_back(touch.gfn - config.range.start);
  }
  return indexes;
}

TEST(TouchSequenceTest, SequentialAscendsInEachPass) {
  const auto touches = AllOf(Config(TouchPattern::kSequential, 3, 2));
  ASSERT_EQ(touches.size(), 6u);
  for (size_t i = 0; i < touches.size(); ++i) {
    EXPECT_EQ(touches[i].gfn, Gfn(0x100 + i % 3));
    EXPECT_EQ(touches[i].value, 1 + i / 3);
  }
}

TEST(TouchSequenceTest, EveryPatternStaysInItsRangeAndCountsItsTouches) {
  for (const TouchPattern pattern : kPatterns) {
    for (const uint64_t frames : {1, 2, 3, 9, 10, 11, 64, 65, 1000}) {
      const auto config = Config(pattern, frames, 3);
      const auto touches = AllOf(config);
      EXPECT_EQ(touches.size(), 3 * frames);
      for (const Touch& touch : touches) {
        EXPECT_TRUE(config.range.Contains(touch.gfn));
      }
      EXPECT_EQ(touches.back().value, 3);
    }
  }
}

TEST(TouchSequenceTest, ShuffledTakesEveryFrameOnceInAFixedOrder) {
  for (const uint64_t frames : {1, 2, 3, 4, 5, 7, 8, 100, 1024, 1025}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const auto indexes =
          IndexesOf(Config(TouchPattern::kShuffled, frames, 2, seed));
      const std::vector<uint64_t> first(indexes.begin(),
                                        indexes.begin() + frames);
      const std::vector<uint64_t> second(indexes.begin() + frames,
                                         indexes.end());
      EXPECT_EQ(first, second);
      EXPECT_EQ(std::set<uint64_t>(first.begin(), first.end()).size(), frames);
    }
  }
}

TEST(TouchSequenceTest, ShuffledIsNeitherSortedNorTheSameForEverySeed) {
  std::set<std::vector<uint64_t>> orders;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const auto indexes =
        IndexesOf(Config(TouchPattern::kShuffled, 1000, 1, seed));
    EXPECT_FALSE(std::is_sorted(indexes.begin(), indexes.end()));
    orders.insert(indexes);
  }
  EXPECT_EQ(orders.size(), 10u);
}

TEST(TouchSequenceTest, UniformSpreadsOverTheRange) {
  const uint64_t frames = 100;
  std::map<uint64_t, int> counts;
  for (const uint64_t index :
       IndexesOf(Config(TouchPattern::kUniform, frames, 1000))) {
    ++counts[index];
  }
  ASSERT_EQ(counts.size(), frames);
  for (const auto& [index, count] : counts) {
    EXPECT_NEAR(count, 1000, 250) << index;
  }
}

TEST(TouchSequenceTest, AHotTenthTakesNineTenthsOfTheTouches) {
  const uint64_t frames = 1000;
  int hot = 0;
  std::set<uint64_t> cold;
  const auto indexes = IndexesOf(Config(TouchPattern::kHotTenth, frames, 100));
  for (const uint64_t index : indexes) {
    if (index < 100) {
      ++hot;
    } else {
      cold.insert(index);
    }
  }
  EXPECT_NEAR(static_cast<double>(hot) / indexes.size(), 0.9, 0.01);
  EXPECT_EQ(cold.size(), 900u);
}

TEST(TouchSequenceTest, TheSeedDecidesRandomPatterns) {
  for (const TouchPattern pattern :
       {TouchPattern::kShuffled, TouchPattern::kUniform,
        TouchPattern::kHotTenth}) {
    EXPECT_EQ(IndexesOf(Config(pattern, 500, 1, 7)),
              IndexesOf(Config(pattern, 500, 1, 7)));
    EXPECT_NE(IndexesOf(Config(pattern, 500, 1, 7)),
              IndexesOf(Config(pattern, 500, 1, 8)));
  }
}

TEST(TouchSequenceTest, NoPassCountMeansOnePass) {
  EXPECT_EQ(AllOf(Config(TouchPattern::kSequential, 5, 0)).size(), 5u);
}

TEST(TouchSequenceTest, AnEndlessGuestGoesOnAndItsByteWraps) {
  TouchSequence sequence(Config(TouchPattern::kSequential, 2, -1));
  Touch touch;
  for (int i = 0; i < 2 * 256 + 1; ++i) ASSERT_TRUE(sequence.Next(&touch));
  EXPECT_EQ(touch.value, 1);
}

TEST(TouchSequenceTest, HugeRangesDoNotOverflow) {
  for (const TouchPattern pattern : kPatterns) {
    const auto config = Config(pattern, uint64_t{1} << 36);
    TouchSequence sequence(config);
    Touch touch;
    for (int i = 0; i < 1000; ++i) {
      ASSERT_TRUE(sequence.Next(&touch));
      ASSERT_TRUE(config.range.Contains(touch.gfn));
    }
  }
}

TEST(TouchSequenceTest, TheBlockDescribesTheGuest) {
  const TouchBlock block =
      MakeTouchBlock(Config(TouchPattern::kHotTenth, 105, -1));
  EXPECT_EQ(block.base_gpa, 0x100000u);
  EXPECT_EQ(block.frame_count, 105u);
  EXPECT_EQ(block.pattern, kTouchHotTenth);
  EXPECT_EQ(block.write, 1u);
  EXPECT_EQ(block.pass_count, -1);
  EXPECT_EQ(block.mask, 127u);
  EXPECT_EQ(block.hot_count, 10u);
  EXPECT_EQ(block.cold_start, 10u);
  EXPECT_EQ(block.cold_count, 95u);
  EXPECT_EQ(block.touched_count, 0u);
}

}  // namespace
}  // namespace tdp
