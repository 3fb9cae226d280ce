// What tests of a VM's working set share: guests that touch what is known, and
// ways to ask what was touched.
//
// Thread safety: belongs to the test's thread, but for the questions to the VM.

#ifndef ENGINE_VM_WORKING_SET_FIXTURE_H_
#define ENGINE_VM_WORKING_SET_FIXTURE_H_

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {

class WorkingSetTest : public VmOnEachHypervisorTest {
 protected:
  static constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);
  static constexpr absl::Duration kInterval = absl::Milliseconds(100);

  static GfnRange Frames(uint64_t start, uint64_t end) {
    return {Gfn(start), Gfn(end)};
  }
  // A guest that touches `range` once.
  static void Touch(Vm& vm, GfnRange range) {
    ASSERT_OK(
        vm.LoadGuest(-1, TouchGuestConfig{.range = range, .write = true}));
    RunToEnd(vm);
  }
  static WorkingSet Estimate(Vm& vm) {
    const auto answer = vm.EstimateWorkingSet({});
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.value_or(
        WorkingSet{.scan_time = {}, .buckets = std::vector(19, kNoFrames)});
  }
  static int64_t Young(const WorkingSet& set) {
    return set.buckets[0].frame_count;
  }
  static int64_t Mapped(const WorkingSet& set) {
    int64_t frames = 0;
    for (const WorkingSetBucket& bucket : set.buckets) {
      frames += bucket.frame_count;
    }
    return frames;
  }
  // The frames of `range` that a client finds young.
  static std::vector<uint64_t> Age(Vm& vm, GfnRange range,
                                   bool test_only = false) {
    std::vector<uint64_t> young;
    while (!range.empty()) {
      const auto age =
          vm.AgeRange(range, {.test_only = test_only, .bitmap = true}, {});
      EXPECT_TRUE(age.ok()) << age.status();
      if (!age.ok()) break;
      const size_t before = young.size();
      for (size_t i = 0; i < age->young->bits.size() * 8; ++i) {
        if ((age->young->bits[i / 8] >> (i % 8) & 1) == 0) continue;
        young.push_back(age->young->first_gfn.value() + i);
      }
      EXPECT_EQ(static_cast<int64_t>(young.size() - before),
                age->young_frame_count);
      range.start = age->next_gfn;
    }
    return young;
  }
  static std::vector<uint64_t> List(GfnRange range) {
    std::vector<uint64_t> list;
    for (uint64_t i = range.start.value(); i < range.end.value(); ++i) {
      list.push_back(i);
    }
    return list;
  }
  int64_t Watch(Vm& vm, absl::Duration interval = kInterval) {
    const auto id = vm.AddWorkingSetWatcher(interval, [this] { ++wakes_; });
    EXPECT_TRUE(id.ok()) << id.status();
    return id.value_or(0);
  }
  // The next histogram that the watcher gets.
  static WorkingSet AwaitNext(Vm& vm, int64_t id) {
    const absl::Time end = absl::Now() + kPatience;
    for (;;) {
      const auto update = vm.ReadWorkingSet(id);
      EXPECT_TRUE(update.ok()) << update.status();
      if (update.ok() && update->working_set.has_value()) {
        return *update->working_set;
      }
      if (!update.ok() || absl::Now() > end) {
        ADD_FAILURE() << "no histogram comes";
        return Estimate(vm);
      }
      absl::SleepFor(absl::Microseconds(200));
    }
  }
  // Waits for a scan that begins after this call.
  static WorkingSet AwaitFresh(Vm& vm, int64_t id) {
    AwaitNext(vm, id);
    AwaitNext(vm, id);
    return AwaitNext(vm, id);
  }
  static int ScannerThreads() {
    int count = 0;
    for (const auto& task :
         std::filesystem::directory_iterator("/proc/self/task")) {
      std::ifstream comm(task.path() / "comm");
      std::string name;
      std::getline(comm, name);
      count += name == "tdpd-scanner" ? 1 : 0;
    }
    return count;
  }
  static void AwaitScannerThreads(int count) {
    const absl::Time end = absl::Now() + kPatience;
    while (ScannerThreads() != count) {
      ASSERT_LT(absl::Now(), end) << ScannerThreads() << " scanner threads";
      absl::SleepFor(absl::Microseconds(200));
    }
  }

  static constexpr WorkingSetBucket kNoFrames = {};
  std::atomic<int> wakes_ = 0;
};

}  // namespace tdp

#endif  // ENGINE_VM_WORKING_SET_FIXTURE_H_
