// The dirty log, with guests that write.

#include <atomic>
#include <bit>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/vm/vm_test_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);
constexpr char kSlot[] = "ram";

class DirtyLogVmTest : public VmInEachDirtyModeTest {
 protected:
  using Frames = std::set<uint64_t>;

  static bool Harvests() { return Mode() == DirtyMode::kHarvest; }
  Vm& CreateVm(int vcpu_count) {
    return VmTest::CreateVm(Hypervisor(), vcpu_count);
  }
  static void AddMemslot(Vm& vm, const std::string& id, uint64_t base_gfn,
                         int64_t frame_count, MemslotConfig config = {}) {
    config.dirty_mode = Mode();
    VmTest::AddMemslot(vm, id, base_gfn, frame_count, config);
  }

  static Frames FramesOf(const FrameBitmap& bitmap) {
    Frames frames;
    for (size_t i = 0; i < bitmap.bits.size(); ++i) {
      for (int bit = 0; bit < 8; ++bit) {
        if ((static_cast<uint8_t>(bitmap.bits[i]) >> bit & 1) != 0) {
          frames.insert(bitmap.first_gfn.value() + i * 8 +
                        static_cast<uint64_t>(bit));
        }
      }
    }
    return frames;
  }
  // Calls visit(bitmap) for each chunk of the memslot.
  template <typename Visit>
  static void ForEachChunk(Vm& vm, absl::string_view consumer, Visit visit) {
    GfnRange range = WholeRange(vm);
    while (!range.empty()) {
      const auto chunk = vm.ReadDirtyLog(kSlot, consumer, range);
      ASSERT_OK(chunk.status());
      visit(*chunk);
      range.start =
          chunk->first_gfn + static_cast<uint64_t>(chunk->frame_count);
    }
  }
  static Frames Read(Vm& vm, absl::string_view consumer = "") {
    Frames all;
    ForEachChunk(vm, consumer,
                 [&](const FrameBitmap& chunk) { all.merge(FramesOf(chunk)); });
    return all;
  }
  static Frames ReadAndClear(Vm& vm, absl::string_view consumer = "") {
    Frames all;
    ForEachChunk(vm, consumer, [&](const FrameBitmap& chunk) {
      Frames frames = FramesOf(chunk);
      const auto cleared = vm.ClearDirtyLog(kSlot, consumer, chunk);
      ASSERT_OK(cleared.status());
      EXPECT_EQ(*cleared, static_cast<int64_t>(frames.size()));
      all.merge(frames);
    });
    return all;
  }
  static Frames FramesFrom(uint64_t start, uint64_t count) {
    Frames frames;
    for (uint64_t i = 0; i < count; ++i) frames.insert(start + i);
    return frames;
  }
  // Touches `count` frames from `start` on, once, and ends.
  static void Touch(Vm& vm, uint64_t start, uint64_t count, bool write) {
    ASSERT_OK(vm.LoadGuest(
        0, TouchGuestConfig{.range = {Gfn(start), Gfn(start + count)},
                            .write = write,
                            .pass_count = 1}));
    RunToEnd(vm);
  }
  static void SetLog(Vm& vm, bool enabled) {
    ASSERT_OK(
        vm.UpdateMemslot(kSlot, {.dirty_log_enabled = enabled}, "").status());
  }
};

TEST_P(DirtyLogVmTest, ExactlyTheFramesWrittenBetweenTwoReadsAreReported) {
  constexpr uint64_t kFrames = 2048;
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 0, kFrames, {.dirty_log_enabled = true});
  MapAll(vm, WholeRange(vm), /*write=*/true);
  EXPECT_THAT(Read(vm), IsEmpty()) << "a map is no write";
  for (const uint64_t count : {1, 63, 64, 65, 700, 2048}) {
    const uint64_t start = (kFrames - count) / 2;
    Touch(vm, start, count, /*write=*/true);
    EXPECT_EQ(Read(vm), FramesFrom(start, count)) << count;
    EXPECT_EQ(ReadAndClear(vm), FramesFrom(start, count)) << count;
    EXPECT_THAT(Read(vm), IsEmpty()) << count;
  }
  Touch(vm, 0, kFrames, /*write=*/false);
  EXPECT_THAT(Read(vm), IsEmpty()) << "a read is no write";
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(DirtyLogVmTest, WritesOfTheDaemonAndDiscardsAreReported) {
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 0, 64, {.dirty_log_enabled = true});
  ASSERT_OK(vm.WriteMemory(Gpa(3 * kPageSize - 1), "ab"));
  EXPECT_THAT(ReadAndClear(vm), ElementsAre(2, 3));
  ASSERT_OK(vm.DiscardRange({Gfn(3), Gfn(5)}, {}).status());
  EXPECT_THAT(ReadAndClear(vm), ElementsAre(3, 4));
}

TEST_P(DirtyLogVmTest, EachConsumerSeesWhatItHasNotCleared) {
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 0, 256, {.dirty_log_enabled = true});
  ASSERT_OK(vm.CreateDirtyConsumer("a"));
  Touch(vm, 0, 10, true);
  EXPECT_EQ(ReadAndClear(vm, "a"), FramesFrom(0, 10));
  Touch(vm, 5, 10, true);
  // What was writable when it came is noticed too.
  ASSERT_OK(vm.CreateDirtyConsumer("b"));
  Touch(vm, 7, 2, true);
  EXPECT_EQ(Read(vm), FramesFrom(0, 15));
  EXPECT_EQ(Read(vm, "default"), FramesFrom(0, 15));
  EXPECT_EQ(ReadAndClear(vm, "a"), FramesFrom(5, 10));
  EXPECT_EQ(ReadAndClear(vm, "b"), FramesFrom(7, 2));
  EXPECT_THAT(vm.ListDirtyConsumers(), ElementsAre("a", "b", "default"));
  ASSERT_OK(vm.DeleteDirtyConsumer("a"));
  EXPECT_EQ(ReasonOf(vm.ReadDirtyLog(kSlot, "a", WholeRange(vm)).status()),
            ErrorReason::kResourceNotFound);
}

TEST_P(DirtyLogVmTest, InitiallySetReportsEveryFrameOnce) {
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 0, 100);
  MapAll(vm, WholeRange(vm), /*write=*/true);
  ASSERT_OK(vm.UpdateMemslot(
                  kSlot,
                  {.dirty_log_enabled = true, .dirty_log_initially_set = true},
                  "")
                .status());
  EXPECT_EQ(ReadAndClear(vm), FramesFrom(0, 100));
  Touch(vm, 30, 3, true);
  EXPECT_THAT(ReadAndClear(vm), ElementsAre(30, 31, 32));
}

TEST_P(DirtyLogVmTest, AMemslotThatBeginsAnywhereIsReportedByItsFrames) {
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 100, 100, {.dirty_log_enabled = true});
  Touch(vm, 120, 20, true);
  const auto bits = vm.ReadDirtyLog(kSlot, "", {Gfn(130), Gfn(300)});
  ASSERT_OK(bits.status());
  EXPECT_EQ(bits->first_gfn, Gfn(128));
  EXPECT_EQ(bits->frame_count, 200 - 128);
  EXPECT_EQ(FramesOf(*bits), FramesFrom(130, 10));
  // Moved, the frames have other numbers.
  ASSERT_OK(vm.UpdateMemslot(kSlot, {.base_gfn = Gfn(1001)}, "").status());
  EXPECT_EQ(ReadAndClear(vm), FramesFrom(1021, 20));
  Touch(vm, 1001, 1, true);
  EXPECT_THAT(Read(vm), ElementsAre(1001));
}

TEST_P(DirtyLogVmTest, WhatWasReadBeforeAMoveCannotClearOtherFrames) {
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 0, 256, {.dirty_log_enabled = true});
  Touch(vm, 0, 256, true);
  const auto read = vm.ReadDirtyLog(kSlot, "", WholeRange(vm));
  ASSERT_OK(read.status());
  ASSERT_OK(vm.UpdateMemslot(kSlot, {.base_gfn = Gfn(128)}, "").status());
  EXPECT_EQ(ReasonOf(vm.ClearDirtyLog(kSlot, "", *read).status()),
            ErrorReason::kOperationConflict);
  EXPECT_EQ(Read(vm), FramesFrom(128, 256));
  EXPECT_EQ(ReadAndClear(vm), FramesFrom(128, 256));
}

TEST_P(DirtyLogVmTest, BitmapsThatAreNotOfTheLogAreRefused) {
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 0, 64, {.dirty_log_enabled = true});
  Touch(vm, 0, 64, true);
  const std::string all(8, '\xff');
  for (const FrameBitmap& bad :
       {FrameBitmap{.first_gfn = Gfn(1), .frame_count = 64, .bits = all},
        FrameBitmap{.first_gfn = Gfn(~uint64_t{0} << 6),
                    .frame_count = 64,
                    .bits = all},
        FrameBitmap{.first_gfn = Gfn(0), .frame_count = -1, .bits = ""},
        FrameBitmap{.first_gfn = Gfn(0), .frame_count = 65, .bits = all},
        FrameBitmap{.first_gfn = Gfn(0), .frame_count = 56, .bits = all}}) {
    EXPECT_EQ(ReasonOf(vm.ClearDirtyLog(kSlot, "", bad).status()),
              ErrorReason::kFieldInvalid);
  }
  EXPECT_EQ(Read(vm), FramesFrom(0, 64));
  // Bits behind frame_count are of no frame.
  EXPECT_EQ(*vm.ClearDirtyLog(kSlot, "",
                              {.first_gfn = Gfn(0),
                               .frame_count = 3,
                               .bits = std::string(1, '\xff')}),
            3);
}

TEST_P(DirtyLogVmTest, HugeMappingsStayUntilWrittenAndComeBack) {
  constexpr uint64_t kFrames = 4 * kBlock;
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 0, kFrames);
  MapAll(vm, WholeRange(vm), /*write=*/true, /*max_level=*/2);
  ASSERT_EQ(vm.Stats().leaf_2m_count, 4);
  SetLog(vm, true);
  EXPECT_EQ(vm.Stats().leaf_2m_count, 4);
  Touch(vm, kBlock + 7, 2, true);
  EXPECT_EQ(vm.Stats().leaf_2m_count, Harvests() ? 4 : 3);
  EXPECT_THAT(Read(vm), ElementsAre(kBlock + 7, kBlock + 8));
  SetLog(vm, false);
  EXPECT_EQ(vm.Stats().leaf_2m_count, 4);
  const int64_t faults = vm.Stats().fault_write_protected_count;
  Touch(vm, 0, kFrames, true);
  EXPECT_EQ(vm.Stats().fault_write_protected_count, faults);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(DirtyLogVmTest, ALogThatIsSwitchedOffAndOnBeginsAnew) {
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 0, 64, {.dirty_log_enabled = true});
  Touch(vm, 0, 8, true);
  SetLog(vm, false);
  Touch(vm, 0, 64, true);
  SetLog(vm, true);
  EXPECT_THAT(Read(vm), IsEmpty());
  Touch(vm, 5, 1, true);
  EXPECT_THAT(Read(vm), ElementsAre(5));
}

// "May report frames that were only zapped", and never fewer than were written.
TEST_P(DirtyLogVmTest, AZapLosesNoWrite) {
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 0, 256, {.dirty_log_enabled = true});
  MapAll(vm, WholeRange(vm), /*write=*/true);
  ReadAndClear(vm);
  Touch(vm, 10, 20, true);
  ASSERT_OK(vm.ZapRange({Gfn(0), Gfn(64)}, {}).status());
  const Frames all = ReadAndClear(vm);
  for (const uint64_t gfn : FramesFrom(10, 20)) EXPECT_TRUE(all.contains(gfn));
  EXPECT_THAT(Read(vm), IsEmpty());
  Touch(vm, 0, 256, false);
  EXPECT_THAT(Read(vm), IsEmpty()) << "a read is no write";
  Touch(vm, 12, 1, true);
  EXPECT_THAT(Read(vm), ElementsAre(12));
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(DirtyLogVmTest, BadRequestsAreToldApart) {
  Vm& vm = CreateVm(1);
  AddMemslot(vm, kSlot, 64, 64);
  const GfnRange all = WholeRange(vm);
  EXPECT_EQ(ReasonOf(vm.ReadDirtyLog(kSlot, "", all).status()),
            ErrorReason::kDirtyLogOff);
  EXPECT_EQ(ReasonOf(vm.ClearDirtyLog(kSlot, "", {}).status()),
            ErrorReason::kDirtyLogOff);
  SetLog(vm, true);
  EXPECT_EQ(ReasonOf(vm.ReadDirtyLog("other", "", all).status()),
            ErrorReason::kResourceNotFound);
  EXPECT_EQ(ReasonOf(vm.ReadDirtyLog(kSlot, "other", all).status()),
            ErrorReason::kResourceNotFound);
  EXPECT_EQ(ReasonOf(vm.ReadDirtyLog(kSlot, "", {Gfn(0), Gfn(64)}).status()),
            ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(vm.DeleteDirtyConsumer("default")),
            ErrorReason::kFieldInvalid);
  EXPECT_EQ(ReasonOf(vm.DeleteDirtyConsumer("none")),
            ErrorReason::kResourceNotFound);
  EXPECT_EQ(ReasonOf(vm.CreateDirtyConsumer("default")),
            ErrorReason::kResourceExists);
  for (int64_t i = 1; i < limits::kMaxDirtyConsumers; ++i) {
    ASSERT_OK(vm.CreateDirtyConsumer(absl::StrCat("c", i)));
  }
  EXPECT_EQ(ReasonOf(vm.CreateDirtyConsumer("more")),
            ErrorReason::kLimitReached);
  ASSERT_OK(vm.DeleteDirtyConsumer("c3"));
  ASSERT_OK(vm.CreateDirtyConsumer("more"));
}

// What a live migration does, while others change everything: whoever reads,
// clears and then copies ends with the guest's memory.
TEST_P(DirtyLogVmTest, ACopyByTheLogEqualsTheMemoryWhateverElseHappens) {
  constexpr uint64_t kFrames = 2 * kBlock;
  Vm& vm = CreateVm(2);
  AddMemslot(vm, kSlot, 0, kFrames);
  ASSERT_OK(
      vm.LoadGuest(-1, TouchGuestConfig{.range = {Gfn(0), Gfn(kFrames)},
                                        .pattern = TouchPattern::kShuffled,
                                        .write = true,
                                        .pass_count = -1}));
  ASSERT_OK(vm.Start().status());
  ASSERT_OK(vm.UpdateMemslot(
                  kSlot,
                  {.dirty_log_enabled = true, .dirty_log_initially_set = true},
                  "")
                .status());
  std::map<uint64_t, std::string> copy;
  const auto copy_dirty = [&] {
    for (const uint64_t gfn : ReadAndClear(vm)) {
      const auto bytes = vm.ReadMemory(GpaOf(Gfn(gfn)), kPageSize);
      ASSERT_OK(bytes.status());
      copy[gfn] = *bytes;
    }
  };
  std::atomic<bool> done{false};
  std::thread changer([&] {
    const GfnRange all = {Gfn(0), Gfn(kFrames)};
    for (uint64_t i = 0; !done; ++i) {
      const Gfn start(i * 37 % kFrames);
      const GfnRange some = {start, std::min(all.end, start + 100)};
      EXPECT_OK(vm.ZapRange(some, {}).status());
      EXPECT_OK(vm.MapRange(all, 2, true, {}).status());
      EXPECT_OK(vm.SplitHugePages(all, 1, {}).status());
      // Where writes cannot be held back it is refused.
      (void)vm.WriteProtectRange(some, 0, {});
      EXPECT_OK(vm.AgeRange(some, {}, {}).status());
      EXPECT_OK(vm.CollapseHugePages(all, 2, {}).status());
      EXPECT_OK(vm.CreateDirtyConsumer("other"));
      EXPECT_OK(vm.DeleteDirtyConsumer("other"));
    }
  });
  const absl::Time end = absl::Now() + absl::Seconds(5);
  while (absl::Now() < end) copy_dirty();
  done = true;
  changer.join();
  ASSERT_OK(vm.Stop().status());
  copy_dirty();
  for (const auto& [gfn, bytes] : copy) {
    ASSERT_EQ(*vm.ReadMemory(GpaOf(Gfn(gfn)), kPageSize), bytes) << gfn;
  }
  EXPECT_EQ(copy.size(), kFrames);
  ExpectCleanAudit(vm, WholeRange(vm));
}

INSTANTIATE_IN_EACH_DIRTY_MODE(DirtyLogVmTest);

}  // namespace
}  // namespace tdp
