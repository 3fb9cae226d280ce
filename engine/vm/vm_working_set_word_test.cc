// What scans of the working set and clients that age owe each other when they
// come in each other's way, or when the memory changes meanwhile.

#include <chrono>
#include <fstream>
#include <functional>
#include <future>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "engine/vm/working_set_fixture.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

class WorkingSetWordTest : public WorkingSetTest {
 protected:
  // Ages as one call, which calls `step` after its first step.
  static int64_t AgeWithStep(Vm& vm, GfnRange range,
                             const std::function<void()>& step) {
    bool first = true;
    const auto age = vm.AgeRange(
        range, {}, {.time = absl::InfiniteDuration(), .cancelled = [&] {
                      if (std::exchange(first, false)) step();
                      return false;
                    }});
    EXPECT_TRUE(age.ok()) << age.status();
    if (!age.ok()) return -1;
    EXPECT_EQ(age->next_gfn, range.end);
    return age->young_frame_count;
  }
  // Whether the process maps a memslot of that name.
  static bool HasMemory(const std::string& name) {
    std::ifstream maps("/proc/self/maps");
    std::string line;
    while (std::getline(maps, line)) {
      if (line.find("memfd:") != std::string::npos &&
          line.find(name) != std::string::npos) {
        return true;
      }
    }
    return false;
  }
};

TEST_P(WorkingSetWordTest, AWatcherThatGoesLeavesItsWordForClients) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 1024);
  MapAll(vm, Frames(0, 1024), /*write=*/true, /*max_level=*/1);
  Age(vm, Frames(0, 1024));
  Touch(vm, Frames(100, 164));
  const int64_t id = Watch(vm);
  EXPECT_EQ(Young(AwaitNext(vm, id)), 64);
  vm.RemoveWorkingSetWatcher(id);
  AwaitScannerThreads(0);  // ages have been dropped
  EXPECT_EQ(Age(vm, Frames(0, 1024)), List(Frames(100, 164)));
  EXPECT_TRUE(Age(vm, Frames(0, 1024)).empty());
  Touch(vm, Frames(7, 9));
  EXPECT_EQ(Age(vm, Frames(0, 1024)), List(Frames(7, 9)));
}

TEST_P(WorkingSetWordTest, AgingAPartOfAHugeMappingIsWordOfAllOfIt) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 2 * kBlock);
  MapAll(vm, Frames(0, kBlock), /*write=*/true, /*max_level=*/2);
  ASSERT_EQ(vm.Stats().leaf_2m_count, 1);
  EXPECT_EQ(Young(Estimate(vm)), static_cast<int64_t>(kBlock));
  Touch(vm, Frames(300, 301));
  EXPECT_EQ(Age(vm, Frames(8, 16)), List(Frames(8, 16)));
  ASSERT_OK(vm.SplitHugePages(Frames(0, kBlock), 1, {}).status());
  ASSERT_EQ(vm.Stats().leaf_2m_count, 0);
  EXPECT_EQ(Young(Estimate(vm)), static_cast<int64_t>(kBlock))
      << "any of its frames may be the one";
}

TEST_P(WorkingSetWordTest, AFrameIsYoungOnceWhereATableBecomesHugeMeanwhile) {
  Vm& vm = CreateVm(GetParam(), 1);
  const GfnRange block = Frames(0, kBlock);
  AddMemslot(vm, "ram", 0, kBlock);
  MapAll(vm, block, /*write=*/true, /*max_level=*/1);
  Age(vm, Frames(100, 200));
  // The first step ages frames 0 to 99.
  const int64_t young = AgeWithStep(vm, block, [&] {
    ASSERT_OK(vm.CollapseHugePages(block, 0, {}).status());
    ASSERT_EQ(vm.Stats().leaf_2m_count, 1);
  });
  EXPECT_EQ(young, static_cast<int64_t>(kBlock));
}

TEST_P(WorkingSetWordTest, TheFirstScanWaitsForAClientThatKnowsOfNone) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 2 * kBlock);
  MapAll(vm, Frames(0, 2 * kBlock), /*write=*/true, /*max_level=*/1);
  std::future<WorkingSet> estimate;
  const int64_t young = AgeWithStep(vm, Frames(0, 2 * kBlock), [&] {
    estimate = std::async(std::launch::async, [&] { return Estimate(vm); });
    // It may not end before this call does: for that it gets some time.
    EXPECT_EQ(estimate.wait_for(std::chrono::milliseconds(200)),
              std::future_status::timeout);
  });
  EXPECT_EQ(young, static_cast<int64_t>(2 * kBlock)) << "the scan took some";
  EXPECT_EQ(Mapped(estimate.get()), static_cast<int64_t>(2 * kBlock));
  EXPECT_TRUE(Age(vm, Frames(0, 2 * kBlock)).empty());
}

TEST_P(WorkingSetWordTest, ADeletedMemslotDoesNotWaitForTheScanToEnd) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kBlock);
  AddMemslot(vm, "goes", 4 * kBlock, kBlock);
  MapAll(vm, Frames(0, kBlock), /*write=*/true, /*max_level=*/1);
  MapAll(vm, Frames(4 * kBlock, 5 * kBlock), /*write=*/true, /*max_level=*/1);
  ASSERT_TRUE(HasMemory("goes"));
  // Asked for the second time, the scan has begun, with "ram".
  int asked = 0;
  const auto answer = vm.EstimateWorkingSet(
      {.time = absl::InfiniteDuration(), .cancelled = [&] {
         if (++asked != 2) return false;
         EXPECT_OK(vm.DeleteMemslot("goes", ""));
         const absl::Time end = absl::Now() + kPatience;
         while (HasMemory("goes") && absl::Now() < end) {
           absl::SleepFor(absl::Microseconds(200));
         }
         EXPECT_FALSE(HasMemory("goes"));
         return false;
       }});
  ASSERT_OK(answer.status());
  EXPECT_GE(asked, 2);
  EXPECT_EQ(Mapped(*answer), static_cast<int64_t>(kBlock));
}

INSTANTIATE_ON_EACH_HYPERVISOR(WorkingSetWordTest);

}  // namespace
}  // namespace tdp
