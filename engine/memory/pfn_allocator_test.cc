#include "engine/memory/pfn_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/errors.h"
#include "engine/memory/memory_test_util.h"

namespace tdp {
namespace {

constexpr uint64_t kMask = PfnAllocator::kCongruence - 1;

TEST(PfnAllocatorTest, ARangeIsCongruentToItsFirstFrame) {
  PfnAllocator allocator;
  for (const uint64_t gfn : {uint64_t{0}, uint64_t{1}, uint64_t{0x3ffff},
                             uint64_t{0x40000}, (uint64_t{1} << 52) - 1}) {
    const absl::StatusOr<Pfn> pfn = allocator.Allocate(Gfn(gfn), 1);
    ASSERT_TRUE(pfn.ok());
    EXPECT_EQ(pfn->value() & kMask, gfn & kMask);
    EXPECT_NE(pfn->value(), 0u);
  }
}

TEST(PfnAllocatorTest, NeighboursNeverTouch) {
  PfnAllocator allocator;
  // The second memslot follows the first, whose range fills a whole period.
  const Pfn first = *allocator.Allocate(Gfn(0), PfnAllocator::kCongruence);
  const Pfn second = *allocator.Allocate(Gfn(PfnAllocator::kCongruence), 1);
  EXPECT_GT(second, first + PfnAllocator::kCongruence);
  // A range that would end right where the first begins.
  const Pfn third = *allocator.Allocate(Gfn(first.value() - 16), 16);
  EXPECT_FALSE(third + 16 == first);
}

TEST(PfnAllocatorTest, AReleasedRangeIsReusedOnlyOnceRecycled) {
  PfnAllocator allocator;
  const Pfn first = *allocator.Allocate(Gfn(0), 100);
  allocator.Release(first);
  const Pfn second = *allocator.Allocate(Gfn(0), 100);
  EXPECT_NE(first, second);
  allocator.Recycle(first);
  EXPECT_EQ(*allocator.Allocate(Gfn(0), 100), first);
}

TEST(PfnAllocatorTest, AGapIsUsedOnlyIfItIsLargeEnough) {
  PfnAllocator allocator;
  const Pfn small = *allocator.Allocate(Gfn(0), 10);
  const Pfn large = *allocator.Allocate(Gfn(0), PfnAllocator::kCongruence * 4);
  allocator.Release(small);
  allocator.Recycle(small);
  const Pfn next = *allocator.Allocate(Gfn(0), PfnAllocator::kCongruence);
  EXPECT_GT(next, large);
  EXPECT_EQ(*allocator.Allocate(Gfn(0), 10), small);
}

TEST(PfnAllocatorTest, RunningOutIsALimit) {
  PfnAllocator allocator;
  const uint64_t most = PfnAllocator::kPfnCount - PfnAllocator::kCongruence;
  EXPECT_EQ(ReasonOf(allocator.Allocate(Gfn(0), most + 1).status()),
            ErrorReason::kLimitReached);
  const absl::StatusOr<Pfn> pfn = allocator.Allocate(Gfn(0), most);
  ASSERT_TRUE(pfn.ok());
  EXPECT_EQ(ReasonOf(allocator.Allocate(Gfn(0), 1).status()),
            ErrorReason::kLimitReached);
}

// Two threads allocate, release and recycle; what they hold never overlaps.
TEST(PfnAllocatorTest, ThreadsNeverShareARange) {
  PfnAllocator allocator;
  const auto work = [&](uint64_t seed, std::vector<std::pair<Pfn, Pfn>>* kept) {
    for (uint64_t i = 0; i < 500; ++i) {
      const uint64_t frames = 1 + (seed + i * 7) % 1000;
      const Pfn pfn = *allocator.Allocate(Gfn(seed * i * 513), frames);
      if (i % 3 == 0) {
        allocator.Release(pfn);
        allocator.Recycle(pfn);
      } else {
        kept->emplace_back(pfn, pfn + frames);
      }
    }
  };
  std::vector<std::pair<Pfn, Pfn>> first;
  std::vector<std::pair<Pfn, Pfn>> second;
  std::thread thread([&] { work(1, &first); });
  work(2, &second);
  thread.join();
  first.insert(first.end(), second.begin(), second.end());
  std::sort(first.begin(), first.end());
  for (size_t i = 1; i < first.size(); ++i) {
    EXPECT_GT(first[i].first, first[i - 1].second);
  }
}

}  // namespace
}  // namespace tdp
