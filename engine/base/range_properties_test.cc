#include "engine/base/range_properties.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr uint64_t kEdges[] = {0,
                               1,
                               511,
                               512,
                               uint64_t{1} << 18,
                               (uint64_t{1} << 36) - 1,
                               uint64_t{1} << 36,
                               uint64_t{1} << 40,
                               (uint64_t{1} << 52) - 1,
                               uint64_t{1} << 63,
                               std::numeric_limits<uint64_t>::max()};

TEST(RangePropertiesTest, HoldForEveryStartEndAndFrameOfTheEdges) {
  for (const uint64_t start : kEdges) {
    for (const uint64_t end : kEdges) {
      for (const uint64_t gfn : kEdges) {
        CheckRangeProperties({Gfn(start), Gfn(end)}, {Gfn(gfn), Gfn(end)}, gfn);
        CheckRangeProperties({Gfn(start), Gfn(end)}, {Gfn(start), Gfn(gfn)},
                             gfn);
      }
    }
  }
}

TEST(RangePropertiesTest, HoldForEveryStartAndCountOfTheEdges) {
  for (const uint64_t start : kEdges) {
    for (const uint64_t count : kEdges) {
      for (const uint64_t gfn : kEdges) {
        const uint64_t room = std::numeric_limits<uint64_t>::max() - start;
        const GfnRange range{Gfn(start), Gfn(start) + std::min(count, room)};
        CheckRangeProperties(range, {Gfn(gfn), kGfnEnd}, gfn);
        CheckRangeProperties({Gfn(gfn), kGfnEnd}, range, start);
      }
    }
  }
}

TEST(RangePropertiesTest, HoldForEveryPairOfRangesOfTheEdges) {
  for (const uint64_t start : kEdges) {
    for (const uint64_t end : kEdges) {
      for (const uint64_t other_start : kEdges) {
        for (const uint64_t other_end : kEdges) {
          CheckRangeProperties({Gfn(start), Gfn(end)},
                               {Gfn(other_start), Gfn(other_end)}, start);
        }
      }
    }
  }
}

TEST(PageLevelTest, TheLastEntryOfTheSpaceEndsWithTheRange) {
  const GfnRange range{kGfnEnd - uint64_t{5}, kGfnEnd};
  EXPECT_EQ(FirstEntryOf(range, PageLevel::k2M), range);
}

}  // namespace
}  // namespace tdp
