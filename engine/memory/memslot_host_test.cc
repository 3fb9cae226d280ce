// What the window maps: the host calls of a Memslot, on a real userfaultfd.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <vector>

#include "engine/base/errors.h"
#include "engine/memory/memory_test_util.h"
#include "engine/memory/memslot.h"

namespace tdp {
namespace {

constexpr Gfn kBase(0x100);
constexpr uint64_t kFrames = 1024;

class MemslotHostTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::shared_ptr<Memslot>> memslot =
        Memslot::Create({.name = "ram",
                         .range = {kBase, kBase + kFrames},
                         .base_pfn = Pfn(kBase.value()),
                         .host_calls = &calls_});
    ASSERT_TRUE(memslot.ok()) << memslot.status();
    memslot_ = *std::move(memslot);
  }

  // Frames [first, first + count) of the memslot.
  static GfnRange Run(uint64_t first, uint64_t count) {
    return {kBase + first, kBase + first + count};
  }

  void Load(GfnRange run) {
    const absl::Status status = memslot_->LoadContent(run);
    ASSERT_TRUE(status.ok()) << status;
  }

  void LoadAndMap(GfnRange run, HostProtection protection) {
    Load(run);
    const HostCallResult result = memslot_->Map(run, protection);
    ASSERT_EQ(result.error, 0);
    ASSERT_EQ(result.done_frames, run.size());
  }

  void ExpectHost(GfnRange run, bool present, bool writable) {
    std::vector<HostFrame> frames(run.size());
    const absl::Status status = memslot_->Inspect(run, absl::MakeSpan(frames));
    ASSERT_TRUE(status.ok()) << status;
    for (uint64_t i = 0; i < run.size(); ++i) {
      EXPECT_EQ(frames[i].present, present) << (run.start + i).value();
      EXPECT_EQ(frames[i].writable, writable) << (run.start + i).value();
    }
  }

  volatile char& Byte(uint64_t frame) {
    return *WindowByte(*memslot_, GpaOf(kBase + frame));
  }

  FakeHostCalls calls_;
  std::shared_ptr<Memslot> memslot_;
};

TEST_F(MemslotHostTest, AMappedFrameIsTouchedWithoutAFault) {
  LoadAndMap(Run(3, 2), HostProtection::kReadWrite);
  EXPECT_EQ(Byte(3), 0);
  Byte(4) = 'x';
  EXPECT_EQ(Byte(4), 'x');
  FaultEvent event;
  EXPECT_EQ(*memslot_->ReadFaults(absl::MakeSpan(&event, 1)), 0u);
  ExpectHost(Run(3, 2), true, true);
  ExpectHost(Run(0, 3), false, false);
  ExpectHost(Run(5, 4), false, false);
}

TEST_F(MemslotHostTest, AnUnmappedFrameFaultsUntilItIsMappedAndWoken) {
  Runner toucher([&] { Byte(7) = 'x'; });
  const FaultEvent event = NextFault(*memslot_);
  EXPECT_EQ(event.gfn, kBase + 7);
  EXPECT_TRUE(event.write);
  EXPECT_FALSE(event.minor);
  EXPECT_FALSE(event.write_protect);
  EXPECT_EQ(event.thread, toucher.thread_id());
  LoadAndMap(Run(7, 1), HostProtection::kReadWrite);
  toucher.WaitUntilAsleep();
  EXPECT_FALSE(toucher.done());
  memslot_->Wake(Run(7, 1));
  toucher.Join();
  EXPECT_EQ(Byte(7), 'x');
}

TEST_F(MemslotHostTest, AFrameWithItsPageFaultsAsMinor) {
  Load(Run(0, 1));
  Runner toucher([&] { EXPECT_EQ(Byte(0), 0); });
  const FaultEvent event = NextFault(*memslot_);
  EXPECT_TRUE(event.minor);
  EXPECT_FALSE(event.write);
  LoadAndMap(Run(0, 1), HostProtection::kReadWrite);
  memslot_->Wake(Run(0, 1));
}

TEST_F(MemslotHostTest, TheFirstTheLastAndARunOf512FramesCanBeMapped) {
  for (const GfnRange run :
       {Run(0, 1), Run(kFrames - 1, 1), Run(kFrames - 512, 512)}) {
    LoadAndMap(run, HostProtection::kReadWrite);
    ExpectHost(run, true, true);
    const HostCallResult result = memslot_->Unmap(run);
    EXPECT_EQ(result.done_frames, run.size());
    ExpectHost(run, false, false);
  }
  std::vector<HostFrame> frames(2);
  EXPECT_EQ(
      ReasonOf(memslot_->Inspect(Run(kFrames - 1, 2), absl::MakeSpan(frames))),
      ErrorReason::kGfnNotBacked);
}

TEST_F(MemslotHostTest, UnmappingKeepsTheBytes) {
  LoadAndMap(Run(1, 1), HostProtection::kReadWrite);
  Byte(1) = 'x';
  ASSERT_EQ(memslot_->Unmap(Run(1, 1)).error, 0);
  ExpectHost(Run(1, 1), false, false);
  LoadAndMap(Run(1, 1), HostProtection::kReadOnly);
  EXPECT_EQ(Byte(1), 'x');
}

TEST_F(MemslotHostTest, AReadOnlyMappingFaultsOnWriteOnly) {
  LoadAndMap(Run(2, 1), HostProtection::kReadOnly);
  ExpectHost(Run(2, 1), true, false);
  EXPECT_EQ(Byte(2), 0);
  Runner toucher([&] { Byte(2) = 'x'; });
  const FaultEvent event = NextFault(*memslot_);
  EXPECT_TRUE(event.write);
  EXPECT_TRUE(event.write_protect);
  EXPECT_EQ(memslot_->Protect(Run(2, 1), HostProtection::kReadWrite).error, 0);
  toucher.WaitUntilAsleep();
  EXPECT_FALSE(toucher.done());
  memslot_->Wake(Run(2, 1));
  toucher.Join();
  ExpectHost(Run(2, 1), true, true);
}

TEST_F(MemslotHostTest, ASleeperOnAZappedFrameFaultsAgainWhenWoken) {
  LoadAndMap(Run(2, 1), HostProtection::kReadOnly);
  Runner toucher([&] { Byte(2) = 'x'; });
  EXPECT_TRUE(NextFault(*memslot_).write_protect);
  ASSERT_EQ(memslot_->Unmap(Run(2, 1)).error, 0);
  memslot_->Wake(Run(2, 1));
  const FaultEvent event = NextFault(*memslot_);
  EXPECT_FALSE(event.write_protect);
  EXPECT_TRUE(event.minor);
  LoadAndMap(Run(2, 1), HostProtection::kReadWrite);
  memslot_->Wake(Run(2, 1));
}

TEST_F(MemslotHostTest, MappingGivesMappedFramesTheProtectionToo) {
  LoadAndMap(Run(0, 2), HostProtection::kReadOnly);
  LoadAndMap(Run(4, 1), HostProtection::kReadOnly);
  LoadAndMap(Run(0, 8), HostProtection::kReadWrite);
  ExpectHost(Run(0, 8), true, true);
  LoadAndMap(Run(0, 9), HostProtection::kReadOnly);
  ExpectHost(Run(0, 9), true, false);
}

TEST_F(MemslotHostTest, AnOldWriteProtectionDoesNotOutliveItsMapping) {
  LoadAndMap(Run(0, 4), HostProtection::kReadOnly);
  ASSERT_EQ(memslot_->Unmap(Run(0, 4)).error, 0);
  LoadAndMap(Run(0, 4), HostProtection::kReadWrite);
  ExpectHost(Run(0, 4), true, true);
}

TEST_F(MemslotHostTest, ProtectingLeavesUnmappedFramesUnmapped) {
  LoadAndMap(Run(2, 2), HostProtection::kReadWrite);
  EXPECT_EQ(memslot_->Protect(Run(0, 6), HostProtection::kReadOnly).error, 0);
  ExpectHost(Run(2, 2), true, false);
  ExpectHost(Run(0, 2), false, false);
  EXPECT_EQ(memslot_->Protect(Run(0, 6), HostProtection::kReadWrite).error, 0);
  ExpectHost(Run(2, 2), true, true);
  ExpectHost(Run(4, 2), false, false);
}

TEST_F(MemslotHostTest, MappingStopsAtTheFirstFrameWithoutAPage) {
  EXPECT_EQ(memslot_->Map(Run(0, 1), HostProtection::kReadWrite).error, EFAULT);
  Load(Run(0, 3));
  const HostCallResult result =
      memslot_->Map(Run(0, 6), HostProtection::kReadWrite);
  EXPECT_EQ(result.done_frames, 3u);
  EXPECT_EQ(result.error, EFAULT);
  ExpectHost(Run(0, 3), true, true);
  ExpectHost(Run(3, 3), false, false);
}

TEST_F(MemslotHostTest, ADiscardedFrameHasToBeLoadedAgain) {
  Load(Run(0, 4));
  uint64_t done_frames = 0;
  int64_t freed_frames = 0;
  ASSERT_TRUE(
      memslot_->DiscardContent(Run(1, 1), &done_frames, &freed_frames).ok());
  HostCallResult result = memslot_->Map(Run(0, 4), HostProtection::kReadWrite);
  EXPECT_EQ(result.done_frames, 1u);
  EXPECT_EQ(result.error, EFAULT);
  Load(Run(0, 4));
  result = memslot_->Map(Run(1, 3), HostProtection::kReadWrite);
  EXPECT_EQ(result.done_frames, 3u);
}

// The n-th CONTINUE fails, for all n: what is reported done is mapped, and
// nothing else is.
TEST_F(MemslotHostTest, AFailureHalfWayReportsExactlyWhatIsMapped) {
  Load(Run(0, 8));
  // Every second frame is mapped, so that the run takes many calls.
  for (int fail_at = 0;; ++fail_at) {
    calls_.on_continue = nullptr;
    ASSERT_EQ(memslot_->Unmap(Run(0, 8)).error, 0);
    for (const uint64_t frame : {1, 3, 5}) {
      LoadAndMap(Run(frame, 1), HostProtection::kReadOnly);
    }
    int calls = 0;
    calls_.on_continue = [&](Hva, uint64_t, ContinueResult* result) {
      *result = {.error = ENOMEM, .mapped = -ENOMEM};
      return calls++ == fail_at;
    };
    const HostCallResult result =
        memslot_->Map(Run(0, 8), HostProtection::kReadWrite);
    if (result.done_frames > 0) {
      ExpectHost(Run(0, result.done_frames), true, true);
    }
    if (result.error == 0) {
      EXPECT_EQ(result.done_frames, 8u);
      EXPECT_GT(fail_at, 4);
      break;
    }
    EXPECT_EQ(result.error, ENOMEM);
    std::vector<HostFrame> frames(8 - result.done_frames);
    ASSERT_TRUE(memslot_
                    ->Inspect(Run(result.done_frames, frames.size()),
                              absl::MakeSpan(frames))
                    .ok());
    for (const HostFrame& frame : frames) EXPECT_FALSE(frame.writable);
  }
}

TEST_F(MemslotHostTest, TheKernelMayAskToTryAgainButNotForEver) {
  Load(Run(0, 2));
  int refusals = 20;
  calls_.on_continue = [&](Hva, uint64_t, ContinueResult* result) {
    *result = {.error = EAGAIN, .mapped = -EAGAIN};
    return refusals-- > 0;
  };
  EXPECT_EQ(memslot_->Map(Run(0, 2), HostProtection::kReadWrite).done_frames,
            2u);
  refusals = 1 << 20;
  const HostCallResult result =
      memslot_->Map(Run(0, 1), HostProtection::kReadWrite);
  EXPECT_EQ(result.error, EAGAIN);
  EXPECT_EQ(result.done_frames, 0u);

  refusals = 1 << 20;
  calls_.on_madvise = [&](int, int* error) {
    *error = EAGAIN;
    return refusals-- > 0;
  };
  EXPECT_EQ(memslot_->Unmap(Run(0, 1)).error, EAGAIN);
  refusals = 20;
  EXPECT_EQ(memslot_->Unmap(Run(0, 1)).error, 0);
}

TEST_F(MemslotHostTest, FailedHostCallsAreReported) {
  LoadAndMap(Run(0, 2), HostProtection::kReadWrite);
  calls_.on_write_protect = [](uint64_t, int* error) {
    *error = ENOMEM;
    return true;
  };
  HostCallResult result =
      memslot_->Protect(Run(0, 2), HostProtection::kReadOnly);
  EXPECT_EQ(result.error, ENOMEM);
  EXPECT_EQ(result.done_frames, 0u);
  ExpectHost(Run(0, 2), true, true);
  // Mapping over mapped frames needs the protection to be set.
  result = memslot_->Map(Run(0, 2), HostProtection::kReadOnly);
  EXPECT_EQ(result.error, ENOMEM);
  EXPECT_EQ(result.done_frames, 0u);

  calls_.on_madvise = [](int, int* error) {
    *error = ENOMEM;
    return true;
  };
  result = memslot_->Unmap(Run(0, 2));
  EXPECT_EQ(result.error, ENOMEM);
  EXPECT_EQ(result.done_frames, 0u);
  ExpectHost(Run(0, 2), true, true);
}

TEST_F(MemslotHostTest, ARefusedFrameDoesNotStopTheRunAroundIt) {
  Load(Run(0, 512));
  ASSERT_TRUE(memslot_->Refuse(kBase + 100).ok());
  ASSERT_TRUE(memslot_->Refuse(kBase + 511).ok());
  const HostCallResult result =
      memslot_->Map(Run(0, 512), HostProtection::kReadWrite);
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.done_frames, 512u);
  ASSERT_EQ(memslot_->Protect(Run(0, 512), HostProtection::kReadOnly).error, 0);
  ASSERT_EQ(memslot_->Protect(Run(0, 512), HostProtection::kReadWrite).error,
            0);
  ASSERT_TRUE(memslot_->Admit(kBase + 100).ok());
  ASSERT_TRUE(memslot_->Admit(kBase + 511).ok());
  Byte(100) = 'x';
  EXPECT_EQ(Byte(511), 0);
  ASSERT_TRUE(memslot_->Refuse(kBase + 100).ok());
  EXPECT_EQ(memslot_->Unmap(Run(0, 512)).error, 0);
  ExpectHost(Run(0, 512), false, false);
  ASSERT_TRUE(memslot_->Admit(kBase + 100).ok());
}

// One thread writes to all frames again and again, a pager answers its faults
// as an owner would, and two threads take frames away. No write is lost.
TEST_F(MemslotHostTest, WritesSurviveZapsAndProtections) {
  constexpr uint64_t kUsed = 16;
  constexpr char kPasses = 100;
  Mutex owner;  // stands in for the owner of a frozen entry
  std::atomic<bool> stop{false};
  Runner pager([&] {
    while (!stop.load()) {
      FaultEvent events[4];
      const absl::StatusOr<size_t> count =
          memslot_->ReadFaults(absl::MakeSpan(events));
      ASSERT_TRUE(count.ok());
      for (size_t i = 0; i < *count; ++i) {
        const GfnRange run = {events[i].gfn, events[i].gfn + 1};
        ASSERT_TRUE(memslot_->LoadContent(run).ok());
        {
          MutexLock lock(owner);
          const HostCallResult result =
              memslot_->Map(run, events[i].write ? HostProtection::kReadWrite
                                                 : HostProtection::kReadOnly);
          EXPECT_EQ(result.error, 0);
        }
        memslot_->Wake(run);
      }
      if (*count == 0) std::this_thread::yield();
    }
  });
  Runner zapper([&] {
    for (uint64_t i = 0; !stop.load(); ++i) {
      const GfnRange run = Run(i % kUsed, 1 + i % 3);
      MutexLock lock(owner);
      EXPECT_EQ(memslot_->Unmap(run).error, 0);
      memslot_->Wake(run);
    }
  });
  Runner protector([&] {
    for (uint64_t i = 0; !stop.load(); ++i) {
      MutexLock lock(owner);
      EXPECT_EQ(
          memslot_->Protect(Run(i % kUsed, 2), HostProtection::kReadOnly).error,
          0);
      memslot_->Wake(Run(i % kUsed, 2));
    }
  });
  Runner guest([&] {
    for (char pass = 1; pass <= kPasses; ++pass) {
      for (uint64_t frame = 0; frame < kUsed; ++frame) {
        EXPECT_EQ(Byte(frame), pass - 1);
        Byte(frame) = pass;
      }
    }
  });
  guest.Join();
  stop.store(true);
  zapper.Join();
  protector.Join();
  pager.Join();
  for (uint64_t frame = 0; frame < kUsed; ++frame) {
    char byte = 0;
    ASSERT_TRUE(
        memslot_->ReadBytes(GpaOf(kBase + frame), absl::MakeSpan(&byte, 1))
            .ok());
    EXPECT_EQ(byte, kPasses);
  }
}

}  // namespace
}  // namespace tdp
