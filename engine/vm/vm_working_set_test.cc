// The working set of a VM, with guests that touch what is known.

#include <atomic>
#include <future>
#include <set>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/working_set_fixture.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

TEST_P(WorkingSetTest, ExactlyWhatTheGuestTouchedIsYoung) {
  Vm& vm = CreateVm(GetParam(), 3);
  AddMemslot(vm, "ram", 0, 4096);
  MapAll(vm, Frames(0, 3000), /*write=*/true, /*max_level=*/1);
  EXPECT_EQ(Age(vm, Frames(0, 4096)), List(Frames(0, 3000)));
  EXPECT_TRUE(Age(vm, Frames(0, 4096)).empty());
  const GfnRange parts[] = {Frames(1, 2), Frames(500, 530), Frames(2990, 3010)};
  std::vector<uint64_t> touched;
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(
        vm.LoadGuest(i, TouchGuestConfig{.range = parts[i], .write = true}));
    const std::vector<uint64_t> part = List(parts[i]);
    touched.insert(touched.end(), part.begin(), part.end());
  }
  RunToEnd(vm);
  EXPECT_EQ(Age(vm, Frames(0, 4096), /*test_only=*/true), touched);
  EXPECT_EQ(Age(vm, Frames(0, 4096)), touched);
  EXPECT_TRUE(Age(vm, Frames(0, 4096)).empty());
}

TEST_P(WorkingSetTest, AnEstimateCountsWhatIsMappedByAge) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 2048);
  AddMemslot(vm, "far", 1 << 20, 64);
  EXPECT_EQ(Mapped(Estimate(vm)), 0);
  MapAll(vm, Frames(0, 1024), /*write=*/true, /*max_level=*/1);
  MapAll(vm, Frames(1 << 20, (1 << 20) + 64), /*write=*/true);
  const absl::Time before = absl::Now();
  WorkingSet set = Estimate(vm);
  EXPECT_GE(set.scan_time, before);
  EXPECT_LE(set.scan_time, absl::Now());
  ASSERT_EQ(set.buckets.size(), 19u);
  EXPECT_EQ(Young(set), 1024 + 64);
  EXPECT_EQ(Mapped(set), 1024 + 64);
  Touch(vm, Frames(70, 100));
  set = Estimate(vm);
  EXPECT_EQ(Young(set), 30);
  EXPECT_EQ(Mapped(set), 1024 + 64);
  ASSERT_OK(vm.ZapRange(Frames(0, 512), {}).status());
  set = Estimate(vm);
  EXPECT_EQ(Young(set), 0);
  EXPECT_EQ(Mapped(set), 512 + 64);
  ExpectCleanAudit(vm, Frames(0, 2048));
}

TEST_P(WorkingSetTest, WhatWasIdleBeforeTheFirstScanIsNotYoung) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 1024);
  MapAll(vm, Frames(0, 1024), /*write=*/true, /*max_level=*/1);
  Age(vm, Frames(0, 1024));
  Touch(vm, Frames(10, 20));
  const WorkingSet set = Estimate(vm);
  EXPECT_EQ(Young(set), 10);
  EXPECT_EQ(set.buckets[1].frame_count, 1014) << "for nobody knows how long";
}

TEST_P(WorkingSetTest, AnEstimateStealsNothingFromAClient) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 100, 2000);
  MapAll(vm, Frames(100, 2100), /*write=*/true, /*max_level=*/1);
  Estimate(vm);
  EXPECT_EQ(Age(vm, Frames(0, 4096)), List(Frames(100, 2100)));
  EXPECT_TRUE(Age(vm, Frames(0, 4096)).empty());
  Touch(vm, Frames(500, 700));
  EXPECT_EQ(Young(Estimate(vm)), 200);
  EXPECT_EQ(Young(Estimate(vm)), 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Age(vm, Frames(0, 4096), /*test_only=*/true),
              List(Frames(500, 700)))
        << "who looks takes nothing";
  }
  EXPECT_EQ(Age(vm, Frames(0, 600)), List(Frames(500, 600)));
  EXPECT_EQ(Age(vm, Frames(0, 4096)), List(Frames(600, 700)));
  EXPECT_TRUE(Age(vm, Frames(0, 4096)).empty());
}

TEST_P(WorkingSetTest, AClientStealsNothingFromAnEstimate) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 100, 2000);
  MapAll(vm, Frames(100, 2100), /*write=*/true, /*max_level=*/1);
  EXPECT_EQ(Young(Estimate(vm)), 2000);
  Touch(vm, Frames(500, 700));
  EXPECT_EQ(Age(vm, Frames(0, 650)).size(), 100u + (650 - 100) - 100)
      << "what the estimate found before, and the guest after";
  EXPECT_EQ(Young(Estimate(vm)), 200);
  EXPECT_EQ(Young(Estimate(vm)), 0);
  EXPECT_EQ(Age(vm, Frames(0, 4096)), List(Frames(650, 2100)));
}

TEST_P(WorkingSetTest, AFrameThatIsNoLongerMappedIsYoungForNobody) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  MapAll(vm, Frames(0, 64), /*write=*/true, /*max_level=*/1);
  Estimate(vm);
  ASSERT_OK(vm.ZapRange(Frames(0, 32), {}).status());
  EXPECT_EQ(Age(vm, Frames(0, 64)), List(Frames(32, 64)));
  Age(vm, Frames(0, 64));
  ASSERT_OK(vm.ZapRange(Frames(32, 64), {}).status());
  EXPECT_EQ(Mapped(Estimate(vm)), 0);
}

TEST_P(WorkingSetTest, AHugeMappingHasOneAge) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 4 * kBlock);
  MapAll(vm, Frames(0, 2 * kBlock), /*write=*/true, /*max_level=*/2);
  ASSERT_EQ(vm.Stats().leaf_2m_count, 2);
  EXPECT_EQ(Young(Estimate(vm)), static_cast<int64_t>(2 * kBlock));
  // What a client learns of it is what it would learn without the estimate:
  // a part of the mapping ages the whole.
  EXPECT_EQ(Age(vm, Frames(8, 16)), List(Frames(8, 16)));
  EXPECT_EQ(Age(vm, Frames(0, 2 * kBlock)), List(Frames(kBlock, 2 * kBlock)));
  // And the reverse: the whole is young for the scan.
  Touch(vm, Frames(5, 6));
  EXPECT_EQ(Age(vm, Frames(8, 16)), List(Frames(8, 16)));
  const WorkingSet set = Estimate(vm);
  EXPECT_EQ(Young(set), static_cast<int64_t>(kBlock));
  EXPECT_EQ(Mapped(set), static_cast<int64_t>(2 * kBlock));
  EXPECT_EQ(vm.Stats().leaf_2m_count, 2) << "it stays huge";
}

TEST_P(WorkingSetTest, AMappingThatBecomesHugeIsAsYoungAsItsYoungestFrame) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kBlock);
  MapAll(vm, Frames(0, kBlock), /*write=*/true, /*max_level=*/1);
  Estimate(vm);
  Age(vm, Frames(0, kBlock));
  Touch(vm, Frames(3, 4));
  EXPECT_EQ(Young(Estimate(vm)), 1);
  ASSERT_OK(vm.CollapseHugePages(Frames(0, kBlock), 0, {}).status());
  ASSERT_EQ(vm.Stats().leaf_2m_count, 1);
  EXPECT_EQ(Age(vm, Frames(100, 200)), List(Frames(100, 200)))
      << "for the client, who has not heard of frame 3";
  const WorkingSet set = Estimate(vm);
  EXPECT_EQ(Young(set), 0);
  EXPECT_EQ(Mapped(set), static_cast<int64_t>(kBlock));
}

TEST_P(WorkingSetTest, AWatcherFindsWhatIsHotAndWhatIsCold) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 1024);
  MapAll(vm, Frames(0, 1024), /*write=*/true, /*max_level=*/1);
  ASSERT_OK(vm.LoadGuest(
      0, TouchGuestConfig{
             .range = Frames(0, 64), .write = true, .pass_count = -1}));
  ASSERT_OK(vm.Start().status());
  const int64_t id = Watch(vm);
  // A guest that gets little time may not come round between two scans.
  const absl::Time end = absl::Now() + kPatience;
  for (;;) {
    const WorkingSet set = AwaitNext(vm, id);
    EXPECT_LE(Mapped(set), 1024);
    const int64_t cold = Mapped(set) - Young(set) - set.buckets[1].frame_count;
    if (Young(set) == 64 && cold == 960) break;
    ASSERT_LT(absl::Now(), end) << Young(set) << " hot, " << cold << " cold";
  }
  EXPECT_GE(wakes_, 2);
  vm.RemoveWorkingSetWatcher(id);
  ASSERT_OK(vm.Stop().status());
  ExpectBytesOfPasses(vm, 0, Frames(0, 64));
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(WorkingSetTest, AWatcherAndAClientDoNotStealFromEachOther) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 1024);
  MapAll(vm, Frames(0, 1024), /*write=*/true, /*max_level=*/1);
  const int64_t id = Watch(vm);
  AwaitFresh(vm, id);
  EXPECT_EQ(Age(vm, Frames(0, 1024)), List(Frames(0, 1024)));
  for (uint64_t i = 1; i <= 3; ++i) {
    Touch(vm, Frames(100 * i, 100 * i + 50));
    AwaitFresh(vm, id);
    EXPECT_EQ(Age(vm, Frames(0, 1024)), List(Frames(100 * i, 100 * i + 50)))
        << "whatever the scans have aged";
    EXPECT_TRUE(Age(vm, Frames(0, 1024)).empty());
  }
  vm.RemoveWorkingSetWatcher(id);
}

TEST_P(WorkingSetTest, NoTouchIsMissedWhoeverAgesAtTheSameTime) {
  constexpr uint64_t kFrames = 4096;
  const GfnRange range = Frames(0, kFrames);
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, kFrames);
  MapAll(vm, range, /*write=*/true, /*max_level=*/1);
  Estimate(vm);
  Age(vm, range);
  for (int round = 0; round < 5; ++round) {
    std::atomic<bool> done = false;
    std::atomic<int64_t> scanned = 0;
    std::thread estimator([&] {
      while (!done) scanned += Young(Estimate(vm));
    });
    std::set<uint64_t> aged;
    std::thread client([&] {
      while (!done) {
        for (const uint64_t gfn : Age(vm, range)) aged.insert(gfn);
      }
    });
    Touch(vm, range);
    done = true;
    estimator.join();
    client.join();
    scanned += Young(Estimate(vm));
    for (const uint64_t gfn : Age(vm, range)) aged.insert(gfn);
    EXPECT_EQ(aged.size(), kFrames) << "the client missed some";
    EXPECT_GE(scanned, static_cast<int64_t>(kFrames)) << "the scans did";
    EXPECT_EQ(Young(Estimate(vm)), 0);
    EXPECT_TRUE(Age(vm, range).empty());
  }
  ExpectBytes(vm, 0, kFrames, '\x01');
  ExpectCleanAudit(vm, range);
}

TEST_P(WorkingSetTest, WatchersShareOneThreadThatLivesAsLongAsThey) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  AwaitScannerThreads(0);
  Estimate(vm);
  AwaitScannerThreads(0);  // who asks once needs none
  const int64_t first = Watch(vm);
  const int64_t second = Watch(vm, absl::Milliseconds(250));
  AwaitNext(vm, first);
  AwaitNext(vm, second);
  AwaitScannerThreads(1);
  vm.RemoveWorkingSetWatcher(first);
  AwaitNext(vm, second);
  AwaitScannerThreads(1);
  vm.RemoveWorkingSetWatcher(second);
  AwaitScannerThreads(0);
  const int64_t third = Watch(vm);
  AwaitNext(vm, third);
  AwaitScannerThreads(1);
  vm.RemoveWorkingSetWatcher(third);
  AwaitScannerThreads(0);
}

TEST_P(WorkingSetTest, MemslotsComeMoveAndGoWhileTheyAreScanned) {
  Vm& vm = CreateVm(GetParam(), 2);
  AddMemslot(vm, "ram", 0, 1024);
  AddMemslot(vm, "moves", 4096, 1000);
  ASSERT_OK(vm.LoadGuest(
      -1, TouchGuestConfig{
              .range = Frames(0, 1024), .write = true, .pass_count = -1}));
  ASSERT_OK(vm.Start().status());
  std::atomic<bool> done = false;
  std::atomic<int> estimates = 0;
  std::thread estimator([&] {
    while (!done) {
      const WorkingSet set = Estimate(vm);
      EXPECT_LE(Mapped(set), 1024 + 1000 + 100) << "a frame is counted once";
      ++estimates;
    }
  });
  std::thread client([&] {
    while (!done) Age(vm, Frames(0, 16384));
  });
  const int64_t id = Watch(vm);
  const absl::Time end = absl::Now() + kPatience;
  for (uint64_t i = 0; i < 20 || estimates < 5; ++i) {
    ASSERT_LT(absl::Now(), end) << "estimates get nowhere";
    const uint64_t base = 4096 + (i % 3) * 1003;
    MapAll(vm,
           {vm.GetMemslot("moves")->config.base_gfn,
            vm.GetMemslot("moves")->config.base_gfn + 1000},
           /*write=*/true);
    ASSERT_OK(vm.UpdateMemslot("moves", {.base_gfn = Gfn(base)}, "").status());
    AddMemslot(vm, "short", 8192, 100);
    MapAll(vm, Frames(8192, 8292), /*write=*/true);
    ASSERT_OK(vm.DeleteMemslot("short", ""));
  }
  done = true;
  estimator.join();
  client.join();
  AwaitNext(vm, id);
  vm.RemoveWorkingSetWatcher(id);
  ASSERT_OK(vm.Stop().status());
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(WorkingSetTest, ADeletedVmEndsItsWatchersAndEstimates) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 4096);
  MapAll(vm, Frames(0, 4096), /*write=*/true, /*max_level=*/1);
  const int64_t id = Watch(vm);
  AwaitNext(vm, id);
  auto estimates = std::async(std::launch::async, [&] {
    for (;;) {
      const absl::Status status = vm.EstimateWorkingSet({}).status();
      if (!status.ok()) return status;
    }
  });
  const int wakes = wakes_;
  ASSERT_OK(registry_->DeleteVm("vm0", ""));
  EXPECT_GT(wakes_, wakes);
  AwaitScannerThreads(0);
  EXPECT_EQ(ReasonOf(estimates.get()), ErrorReason::kResourceNotFound);
  (void)vm.ReadWorkingSet(id);
  const auto update = vm.ReadWorkingSet(id);
  ASSERT_TRUE(update.ok());
  EXPECT_TRUE(update->closed);
  EXPECT_FALSE(update->working_set.has_value());
  vm.RemoveWorkingSetWatcher(id);
  EXPECT_EQ(ReasonOf(vm.AddWorkingSetWatcher(kInterval, [] {}).status()),
            ErrorReason::kResourceNotFound);
}

TEST_P(WorkingSetTest, RefusesIntervalsThatAreTooShortOrTooLong) {
  Vm& vm = CreateVm(GetParam(), 1);
  const auto add = [&](absl::Duration interval) {
    return vm.AddWorkingSetWatcher(interval, [] {}).status();
  };
  EXPECT_EQ(add(absl::Milliseconds(99)).message(),
            "field interval is 99ms; it must be between 100ms and 1h");
  EXPECT_EQ(ReasonOf(add(absl::ZeroDuration())), ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(add(-absl::Seconds(1))), ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(add(absl::Hours(1) + absl::Nanoseconds(1))),
            ErrorReason::kFieldInvalid);
  AwaitScannerThreads(0);
  const auto longest = vm.AddWorkingSetWatcher(absl::Hours(1), [] {});
  ASSERT_OK(longest.status());
  vm.RemoveWorkingSetWatcher(*longest);
}

TEST_P(WorkingSetTest, AnEstimateThatNobodyWantsAnyMoreEnds) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  const auto answer = vm.EstimateWorkingSet({.cancelled = [] { return true; }});
  EXPECT_EQ(ReasonOf(answer.status()), ErrorReason::kCancelled);
}

INSTANTIATE_ON_EACH_HYPERVISOR(WorkingSetTest);

}  // namespace
}  // namespace tdp
