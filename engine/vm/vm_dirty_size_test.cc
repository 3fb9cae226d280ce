// The dirty log at every size: K known frames are written between two reads,
// from one frame to all of a gigabyte, and reported, no more and no fewer.

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/touch_sequence.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr char kSlot[] = "ram";
constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);
constexpr uint64_t kGiB = FramesPerEntry(PageLevel::k1G);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kMost = kGiB / 64;
#else
constexpr uint64_t kMost = kGiB;
#endif
constexpr uint64_t kSizes[] = {1, 2, 63, 64, 65, 511, 512, kBlock + 1, 4096};

class DirtySizeTest : public VmInEachDirtyModeTest {
 protected:
  // One for each frame of the memslot.
  using Frames = std::vector<bool>;

  // A VM with one memslot of `frames` frames, mapped and logged.
  Vm& Logged(uint64_t frames, int max_level) {
    Vm& vm = CreateVm(Hypervisor(), 1);
    AddMemslot(vm, kSlot, 0, static_cast<int64_t>(frames),
               {.dirty_mode = Mode()});
    MapAll(vm, WholeRange(vm), /*write=*/true, max_level);
    EXPECT_OK(
        vm.UpdateMemslot(kSlot, {.dirty_log_enabled = true}, "").status());
    EXPECT_EQ(Count(Read(vm)), 0u) << "a map is no write";
    return vm;
  }
  // What the guest writes to in one pass.
  static Frames Expected(uint64_t frames, const TouchGuestConfig& guest) {
    Frames expected(frames);
    TouchSequence sequence(guest);
    for (Touch touch; sequence.Next(&touch);) {
      expected[touch.gfn.value()] = true;
    }
    return expected;
  }
  static void Run(Vm& vm, const TouchGuestConfig& guest) {
    ASSERT_OK(vm.LoadGuest(0, guest));
    RunToEnd(vm);
  }
  static Frames Read(Vm& vm, bool clear = false) {
    const GfnRange all = WholeRange(vm);
    Frames frames(all.size());
    for (Gfn gfn = all.start; gfn < all.end;) {
      const auto chunk = vm.ReadDirtyLog(kSlot, "", {gfn, all.end});
      EXPECT_OK(chunk.status());
      if (!chunk.ok()) break;
      const auto count = static_cast<uint64_t>(chunk->frame_count);
      int64_t set = 0;
      for (uint64_t i = 0; i < count; ++i) {
        if ((static_cast<uint8_t>(chunk->bits[i / 8]) >> (i % 8) & 1) == 0) {
          continue;
        }
        frames[chunk->first_gfn.value() + i] = true;
        ++set;
      }
      if (clear) {
        const auto cleared = vm.ClearDirtyLog(kSlot, "", *chunk);
        EXPECT_OK(cleared.status());
        EXPECT_EQ(cleared.value_or(-1), set);
      }
      gfn = chunk->first_gfn + count;
    }
    return frames;
  }
  static uint64_t Count(const Frames& frames) {
    return static_cast<uint64_t>(
        std::count(frames.begin(), frames.end(), true));
  }
  static void ExpectEqual(const Frames& got, const Frames& wanted) {
    for (uint64_t i = 0; i < wanted.size(); ++i) {
      ASSERT_EQ(got[i], wanted[i])
          << "frame " << i << " of " << Count(wanted) << " written ones";
    }
  }
  // Reads and clears; then there is nothing.
  static void ExpectReported(Vm& vm, const Frames& wanted) {
    ExpectEqual(Read(vm), wanted);
    ExpectEqual(Read(vm, /*clear=*/true), wanted);
    EXPECT_EQ(Count(Read(vm)), 0u);
  }
  // At least what was written; what else, was zapped.
  static void ExpectReportedThoughZapped(Vm& vm, const Frames& wanted) {
    const Frames got = Read(vm, /*clear=*/true);
    if (WriteProtects()) return ExpectEqual(got, wanted);
    for (uint64_t i = 0; i < wanted.size(); ++i) {
      ASSERT_TRUE(got[i] || !wanted[i]) << "frame " << i << " is lost";
    }
    EXPECT_EQ(Count(Read(vm)), 0u);
  }
};

TEST_P(DirtySizeTest, ExactlyTheFramesThatWereWrittenAreReported) {
  constexpr uint64_t kFrames = 8 * kBlock + 3;
  for (const int max_level : {1, 2}) {
    Vm& vm = Logged(kFrames, max_level);
    for (const uint64_t size : kSizes) {
      // In a row across borders, and all over the memslot.
      for (const uint64_t start : {uint64_t{0}, kFrames - size, uint64_t{3}}) {
        if (start + size > kFrames) continue;
        const TouchGuestConfig row = {.range = {Gfn(start), Gfn(start + size)},
                                      .write = true};
        Run(vm, row);
        ExpectReported(vm, Expected(kFrames, row));
      }
    }
    const TouchGuestConfig scattered = {.range = WholeRange(vm),
                                        .pattern = TouchPattern::kUniform,
                                        .write = true,
                                        .seed = 5};
    Run(vm, scattered);
    ExpectReported(vm, Expected(kFrames, scattered));
    ExpectCleanAudit(vm, WholeRange(vm));
  }
}

TEST_P(DirtySizeTest, WhatWasWrittenIsReportedThoughItIsZapped) {
  constexpr uint64_t kFrames = 8 * kBlock + 3;
  Vm& vm = Logged(kFrames, 2);
  for (const uint64_t size : kSizes) {
    const uint64_t start = (kFrames - size) / 2;
    const GfnRange range = {Gfn(start), Gfn(start + size)};
    const TouchGuestConfig row = {.range = range, .write = true};
    const Frames expected = Expected(kFrames, row);
    // Before the read: the first half, and what was not written.
    Run(vm, row);
    ASSERT_OK(vm.ZapRange({Gfn(0), Gfn(start + (size + 1) / 2)}, {}).status());
    ExpectReportedThoughZapped(vm, expected);
    // All of it, while it is written.
    ASSERT_OK(vm.LoadGuest(0, row));
    std::atomic<bool> done{false};
    std::thread zapper([&] {
      while (!done) {
        ASSERT_OK(vm.ZapRange(range, {}).status());
        absl::SleepFor(absl::Milliseconds(1));
      }
    });
    RunToEnd(vm);
    done = true;
    zapper.join();
    ExpectReportedThoughZapped(vm, expected);
    MapAll(vm, WholeRange(vm), /*write=*/true, 2);
  }
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(DirtySizeTest, AllOfAGigabyteIsReported) {
  Vm& vm = Logged(kMost, 2);
  const TouchGuestConfig guest = {.range = WholeRange(vm), .write = true};
  const absl::Time begin = absl::Now();
  Run(vm, guest);
  const absl::Time written = absl::Now();
  ExpectReported(vm, Frames(kMost, true));
  RecordProperty("write_ms",
                 static_cast<int>(absl::ToInt64Milliseconds(written - begin)));
  RecordProperty(
      "report_ms",
      static_cast<int>(absl::ToInt64Milliseconds(absl::Now() - written)));
  // The first frame of the last block alone, after all that.
  const TouchGuestConfig one = {
      .range = {Gfn(kMost - kBlock), Gfn(kMost - kBlock + 1)}, .write = true};
  Run(vm, one);
  ExpectReported(vm, Expected(kMost, one));
}

INSTANTIATE_IN_EACH_DIRTY_MODE(DirtySizeTest);

}  // namespace
}  // namespace tdp
