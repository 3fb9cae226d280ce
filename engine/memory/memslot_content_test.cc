// The bytes of a Memslot: where they come from and how the daemon changes them.

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>
#include <vector>

#include "engine/base/errors.h"
#include "engine/memory/memory_test_util.h"
#include "engine/memory/memslot.h"

namespace tdp {
namespace {

constexpr Gfn kBase(0x200);
constexpr Gpa kStart = GpaOf(kBase);

class MemslotContentTest : public testing::Test {
 protected:
  // `image` is the content of the source; none if empty.
  std::shared_ptr<Memslot> Make(uint64_t frames, const std::string& image) {
    MemslotOptions options = {.name = "ram",
                              .range = {kBase, kBase + frames},
                              .base_pfn = Pfn(kBase.value()),
                              .host_calls = &calls_};
    if (!image.empty()) {
      dir_.Write("image", image);
      absl::StatusOr<FileSource> source =
          FileSource::Open({.image_dir = dir_.path(), .path = "image"});
      EXPECT_TRUE(source.ok()) << source.status();
      options.source = *std::move(source);
    }
    absl::StatusOr<std::shared_ptr<Memslot>> memslot =
        Memslot::Create(std::move(options));
    EXPECT_TRUE(memslot.ok()) << memslot.status();
    return *std::move(memslot);
  }

  static GfnRange Run(uint64_t first, uint64_t count) {
    return {kBase + first, kBase + first + count};
  }

  static std::string Read(Memslot& memslot, Gpa gpa, size_t bytes) {
    std::string buffer(bytes, '?');
    const absl::Status status = memslot.ReadBytes(gpa, absl::MakeSpan(buffer));
    EXPECT_TRUE(status.ok()) << status;
    return buffer;
  }

  static void Write(Memslot& memslot, Gpa gpa, const std::string& bytes) {
    uint64_t written = 0;
    const absl::Status status = memslot.WriteBytes(gpa, bytes, &written);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(written, bytes.size());
  }

  // What the guest sees, through the window.
  static char GuestByte(Memslot& memslot, uint64_t frame, uint64_t offset) {
    const GfnRange run = Run(frame, 1);
    EXPECT_TRUE(memslot.LoadContent(run).ok());
    EXPECT_EQ(memslot.Map(run, HostProtection::kReadOnly).error, 0);
    return *WindowByte(memslot, GpaOf(run.start) + offset);
  }

  TempDir dir_;
  uint64_t done_frames_ = 0;
  int64_t freed_frames_ = 0;
  FakeHostCalls calls_;
};

TEST_F(MemslotContentTest, WithoutASourceTheContentIsZero) {
  const auto memslot = Make(64, "");
  ASSERT_TRUE(memslot->LoadContent(Run(0, 64)).ok());
  EXPECT_EQ(*memslot->AllocatedBytes(), int64_t{64 * kPageSize});
  EXPECT_EQ(GuestByte(*memslot, 63, kPageSize - 1), 0);
  EXPECT_EQ(Read(*memslot, kStart, 64 * kPageSize),
            std::string(64 * kPageSize, '\0'));
}

TEST_F(MemslotContentTest, WithASourceTheContentIsTheFiles) {
  const auto memslot = Make(4, PatternFrames(2) + "tail");
  ASSERT_TRUE(memslot->LoadContent(Run(1, 3)).ok());
  EXPECT_EQ(GuestByte(*memslot, 0, 0), 'a');
  EXPECT_EQ(GuestByte(*memslot, 1, kPageSize - 1), 'b');
  EXPECT_EQ(GuestByte(*memslot, 2, 3), 'l');
  EXPECT_EQ(GuestByte(*memslot, 2, 4), 0);
  EXPECT_EQ(GuestByte(*memslot, 3, 0), 0);
}

TEST_F(MemslotContentTest, ARunIsLoadedWithOneCallOfEachKind) {
  int allocations = 0;
  int reads = 0;
  const auto memslot = Make(1024, PatternFrames(1024));
  calls_.on_fallocate = [&](int, uint64_t, uint64_t bytes, int*) {
    ++allocations;
    EXPECT_EQ(bytes, 512 * kPageSize);
    return false;
  };
  calls_.on_pread = [&](uint64_t, size_t, ssize_t*) {
    ++reads;
    return false;
  };
  ASSERT_TRUE(memslot->LoadContent(Run(512, 512)).ok());
  EXPECT_EQ(allocations, 1);
  EXPECT_EQ(reads, 1);
  // What is there costs no call at all.
  ASSERT_TRUE(memslot->LoadContent(Run(512, 512)).ok());
  EXPECT_EQ(allocations, 1);
}

TEST_F(MemslotContentTest, SparseMemslotsTakeMemoryOnlyWhereTheyAreUsed) {
  const uint64_t frames = uint64_t{64} << (30 - kPageShift);
  const auto memslot = Make(frames, "");
  ASSERT_TRUE(memslot->LoadContent(Run(0, 1)).ok());
  ASSERT_TRUE(memslot->LoadContent(Run(frames - 1, 1)).ok());
  EXPECT_EQ(*memslot->AllocatedBytes(), int64_t{2 * kPageSize});
  EXPECT_EQ(ReasonOf(memslot->LoadContent(Run(frames, 1))),
            ErrorReason::kGfnNotBacked);
  EXPECT_EQ(ReasonOf(memslot->LoadContent(Run(frames - 1, 2))),
            ErrorReason::kGfnNotBacked);
  EXPECT_EQ(ReasonOf(memslot->LoadContent({kBase - 1, kBase + 1})),
            ErrorReason::kGfnNotBacked);
}

TEST_F(MemslotContentTest, ReadingTakesNoMemory) {
  const auto zero = Make(4, "");
  EXPECT_EQ(Read(*zero, kStart, 4 * kPageSize),
            std::string(4 * kPageSize, '\0'));
  EXPECT_EQ(*zero->AllocatedBytes(), 0);

  const auto memslot = Make(4, PatternFrames(3));
  EXPECT_EQ(Read(*memslot, kStart + (kPageSize - 1), 2), "ab");
  EXPECT_EQ(Read(*memslot, kStart, 4 * kPageSize),
            PatternFrames(3) + std::string(kPageSize, '\0'));
  EXPECT_EQ(*memslot->AllocatedBytes(), 0);
}

TEST_F(MemslotContentTest, ReadsMixLoadedAndUnloadedFrames) {
  const auto memslot = Make(8, PatternFrames(8));
  Write(*memslot, kStart + 3 * kPageSize + 1, "XYZ");
  std::string expected = PatternFrames(8);
  expected.replace(3 * kPageSize + 1, 3, "XYZ");
  EXPECT_EQ(Read(*memslot, kStart, 8 * kPageSize), expected);
  EXPECT_EQ(Read(*memslot, kStart + 100, 5 * kPageSize),
            expected.substr(100, 5 * kPageSize));
  EXPECT_EQ(*memslot->AllocatedBytes(), int64_t{kPageSize});
}

TEST_F(MemslotContentTest, BytesAtTheEdgesCanBeReadAndWritten) {
  const auto memslot = Make(2, "");
  Write(*memslot, kStart, "first");
  Write(*memslot, kStart + (2 * kPageSize - 4), "last");
  EXPECT_EQ(Read(*memslot, kStart, 5), "first");
  EXPECT_EQ(Read(*memslot, kStart + (2 * kPageSize - 4), 4), "last");
  EXPECT_EQ(Read(*memslot, kStart, 0), "");

  char buffer[5];
  uint64_t written = 7;
  const Gpa end = kStart + 2 * kPageSize;
  EXPECT_EQ(ReasonOf(memslot->ReadBytes(end - 4, absl::MakeSpan(buffer))),
            ErrorReason::kGfnNotBacked);
  EXPECT_EQ(ReasonOf(memslot->ReadBytes(kStart - 1, absl::MakeSpan(buffer))),
            ErrorReason::kGfnNotBacked);
  EXPECT_EQ(ReasonOf(memslot->WriteBytes(end - 4, "12345", &written)),
            ErrorReason::kGfnNotBacked);
  EXPECT_EQ(written, 0u);
}

TEST_F(MemslotContentTest, WritesOfAnySizeAndPlaceArrive) {
  const auto memslot = Make(1100, PatternFrames(1100));
  std::string expected = PatternFrames(1100);
  const std::string bytes(1030 * kPageSize + 77, '#');
  Write(*memslot, kStart + (20 * kPageSize + 5), bytes);
  expected.replace(20 * kPageSize + 5, bytes.size(), bytes);
  EXPECT_EQ(Read(*memslot, kStart, expected.size()), expected);
}

TEST_F(MemslotContentTest, WritingAWholeFrameNeedsNoSource) {
  const auto memslot = Make(4, PatternFrames(4));
  calls_.on_pread = [](uint64_t, size_t, ssize_t* result) {
    *result = -1;
    errno = EIO;
    return true;
  };
  Write(*memslot, kStart + kPageSize, std::string(2 * kPageSize, 'W'));
  uint64_t written = 0;
  const absl::Status status = memslot->WriteBytes(
      kStart + kPageSize, std::string(2 * kPageSize + 1, 'V'), &written);
  EXPECT_EQ(ReasonOf(status), ErrorReason::kSourceFailed);
  EXPECT_EQ(MetadataOf(status, "gfn"), "0x203");
  EXPECT_EQ(written, 2 * kPageSize);
  calls_.on_pread = nullptr;
  EXPECT_EQ(Read(*memslot, kStart, 4 * kPageSize),
            std::string(kPageSize, 'a') + std::string(2 * kPageSize, 'V') +
                std::string(kPageSize, 'd'));
}

TEST_F(MemslotContentTest, AFailedSourceLoadsWhatItCanAndNamesTheRest) {
  const auto memslot = Make(16, PatternFrames(16));
  bool broken = true;
  calls_.on_pread = [&](uint64_t offset, size_t, ssize_t* result) {
    if (!broken) return false;
    *result = offset >= 5 * kPageSize + 9
                  ? -1
                  : static_cast<ssize_t>(5 * kPageSize + 9 - offset);
    errno = EIO;
    return true;
  };
  const absl::Status status = memslot->LoadContent(Run(0, 16));
  EXPECT_EQ(ReasonOf(status), ErrorReason::kSourceFailed);
  EXPECT_EQ(MetadataOf(status, "gfn"), "0x205");
  EXPECT_EQ(MetadataOf(status, "path"), "image");
  EXPECT_EQ(*memslot->AllocatedBytes(), int64_t{5 * kPageSize});
  HostCallResult result = memslot->Map(Run(0, 16), HostProtection::kReadWrite);
  EXPECT_EQ(result.done_frames, 5u);
  EXPECT_EQ(result.error, EFAULT);

  broken = false;
  ASSERT_TRUE(memslot->LoadContent(Run(0, 16)).ok());
  EXPECT_EQ(Read(*memslot, kStart, 16 * kPageSize), PatternFrames(16));
}

TEST_F(MemslotContentTest, AFullHostNamesTheFrameAndLeavesNothingBehind) {
  const auto memslot = Make(16, PatternFrames(16));
  bool full = true;
  calls_.on_fallocate = [&](int mode, uint64_t, uint64_t, int* error) {
    *error = ENOSPC;
    return full && mode == 0;
  };
  absl::Status status = memslot->LoadContent(Run(3, 2));
  EXPECT_EQ(ReasonOf(status), ErrorReason::kHostMemoryExhausted);
  EXPECT_EQ(MetadataOf(status, "gfn"), "0x203");
  uint64_t written = 1;
  status = memslot->WriteBytes(kStart, std::string(kPageSize, 'x'), &written);
  EXPECT_EQ(ReasonOf(status), ErrorReason::kHostMemoryExhausted);
  EXPECT_EQ(written, 0u);
  EXPECT_EQ(*memslot->AllocatedBytes(), 0);
  EXPECT_EQ(Read(*memslot, kStart, 16 * kPageSize), PatternFrames(16));
  full = false;
  EXPECT_TRUE(memslot->LoadContent(Run(0, 16)).ok());
}

TEST_F(MemslotContentTest, AFailedWriteSaysHowMuchIsInMemory) {
  const auto memslot = Make(4, PatternFrames(4));
  calls_.on_pwrite = [](uint64_t offset, size_t, ssize_t* result) {
    *result = -1;
    errno = ENOSPC;
    return offset >= kPageSize;
  };
  uint64_t written = 0;
  ASSERT_TRUE(memslot->LoadContent(Run(0, 1)).ok());
  const absl::Status status = memslot->WriteBytes(
      kStart + 10, std::string(3 * kPageSize, 'x'), &written);
  EXPECT_EQ(ReasonOf(status), ErrorReason::kHostMemoryExhausted);
  EXPECT_EQ(written, kPageSize - 10);
  EXPECT_EQ(Read(*memslot, kStart + 3 * kPageSize, 1), "d");
}

TEST_F(MemslotContentTest, DiscardedFramesAreZeroWhateverTheSourceHolds) {
  const auto memslot = Make(4, PatternFrames(4));
  ASSERT_TRUE(memslot->LoadContent(Run(0, 2)).ok());
  // One that is loaded, one that is not.
  ASSERT_TRUE(
      memslot->DiscardContent(Run(1, 2), &done_frames_, &freed_frames_).ok());
  EXPECT_EQ(freed_frames_, 1);
  EXPECT_EQ(*memslot->AllocatedBytes(), int64_t{kPageSize});
  const std::string expected = std::string(kPageSize, 'a') +
                               std::string(2 * kPageSize, '\0') +
                               std::string(kPageSize, 'd');
  EXPECT_EQ(Read(*memslot, kStart, 4 * kPageSize), expected);
  ASSERT_TRUE(memslot->LoadContent(Run(0, 4)).ok());
  EXPECT_EQ(Read(*memslot, kStart, 4 * kPageSize), expected);
  EXPECT_EQ(GuestByte(*memslot, 1, 0), 0);
  // A write after the discard stays.
  Write(*memslot, kStart + kPageSize, "new");
  EXPECT_EQ(Read(*memslot, kStart + kPageSize, 4), std::string("new\0", 4));
}

TEST_F(MemslotContentTest, AFailedDiscardKeepsTheContent) {
  const auto memslot = Make(2, PatternFrames(2));
  ASSERT_TRUE(memslot->LoadContent(Run(0, 2)).ok());
  calls_.on_fallocate = [](int mode, uint64_t, uint64_t, int* error) {
    *error = EPERM;
    return mode != 0;
  };
  EXPECT_FALSE(
      memslot->DiscardContent(Run(0, 2), &done_frames_, &freed_frames_).ok());
  EXPECT_EQ(freed_frames_, 0);
  EXPECT_EQ(Read(*memslot, kStart, 2 * kPageSize), PatternFrames(2));
}

TEST_F(MemslotContentTest, ADiscardThatBreaksOffSaysHowFarItGot) {
  constexpr uint64_t kFrames = 1024;
  const auto memslot = Make(kFrames, "");
  ASSERT_TRUE(memslot->LoadContent(Run(0, kFrames)).ok());
  int punched = 0;
  calls_.on_fallocate = [&](int mode, uint64_t, uint64_t, int* error) {
    *error = EIO;
    return mode != 0 && ++punched == 2;
  };
  EXPECT_FALSE(
      memslot->DiscardContent(Run(0, kFrames), &done_frames_, &freed_frames_)
          .ok());
  EXPECT_EQ(done_frames_, 512u);
  EXPECT_EQ(freed_frames_, 512);
  EXPECT_EQ(*memslot->AllocatedBytes(), int64_t{512 * kPageSize});
}

TEST_F(MemslotContentTest, AWriteThatBreaksOffIsInTheDirtyLog) {
  const auto memslot = Make(4, "");
  ASSERT_TRUE(memslot->LoadContent(Run(0, 2)).ok());
  ASSERT_TRUE(memslot->dirty_log().AddConsumer({}, /*all_set=*/false).ok());
  calls_.on_pwrite = [](uint64_t, size_t, ssize_t* result) {
    errno = ENOSPC;
    *result = -1;
    return true;
  };
  uint64_t written = 0;
  EXPECT_FALSE(
      memslot->WriteBytes(kStart, std::string(kPageSize + 1, 'x'), &written)
          .ok());
  uint64_t dirty = 0;
  ASSERT_EQ(memslot->dirty_log().Read({}, kBase, kBase, {&dirty, 1}),
            DirtyLog::Answer::kDone);
  EXPECT_EQ(dirty & 1, 1u);
}

TEST_F(MemslotContentTest, LoadsQuicklyWhatNeedsNoDisk) {
  const auto without_source = Make(2, "");
  EXPECT_TRUE(without_source->LoadsQuickly(kBase));
  const auto memslot = Make(4, PatternFrames(3));
  bool cached = false;
  calls_.on_pread_no_wait = [&](uint64_t, size_t, ssize_t* result) {
    errno = EAGAIN;
    *result = cached ? 1 : -1;
    return true;
  };
  EXPECT_FALSE(memslot->LoadsQuickly(kBase));
  EXPECT_TRUE(memslot->LoadsQuickly(kBase + 3)) << "past the end of the file";
  cached = true;
  EXPECT_TRUE(memslot->LoadsQuickly(kBase));
  cached = false;
  ASSERT_TRUE(memslot->LoadContent(Run(0, 1)).ok());
  EXPECT_TRUE(memslot->LoadsQuickly(kBase)) << "it is there";
  ASSERT_TRUE(
      memslot->DiscardContent(Run(0, 2), &done_frames_, &freed_frames_).ok());
  EXPECT_TRUE(memslot->LoadsQuickly(kBase + 1)) << "it is zero";
  // A thread that reads the frame now would have to be waited for.
  cached = true;
  calls_.on_pread = [&](uint64_t, size_t, ssize_t*) {
    EXPECT_FALSE(memslot->LoadsQuickly(kBase + 2));
    return false;
  };
  ASSERT_TRUE(memslot->LoadContent(Run(2, 1)).ok());
}

// Both threads ask for the same frames; the first read of each run waits until
// the second thread has asked too, or nearly.
TEST_F(MemslotContentTest, TwoLoadersLoadEachFrameOnce) {
  constexpr uint64_t kFrames = 256;
  const auto memslot = Make(kFrames, PatternFrames(kFrames));
  std::vector<std::atomic<int>> loads(kFrames);
  calls_.on_pread = [&](uint64_t offset, size_t bytes, ssize_t*) {
    for (uint64_t i = 0; i < bytes / kPageSize; ++i) {
      ++loads[offset / kPageSize + i];
    }
    std::this_thread::yield();
    return false;
  };
  const auto work = [&](uint64_t step) {
    for (uint64_t i = 0; i < kFrames; i += step) {
      ASSERT_TRUE(
          memslot->LoadContent(Run(i, std::min(step, kFrames - i))).ok());
    }
  };
  {
    Runner first([&] { work(7); });
    Runner second([&] { work(3); });
  }
  for (const std::atomic<int>& count : loads) EXPECT_EQ(count.load(), 1);
  calls_.on_pread = nullptr;
  EXPECT_EQ(Read(*memslot, kStart, kFrames * kPageSize),
            PatternFrames(kFrames));
}

// A writer of whole frames and of parts runs against loaders: no load ever
// covers a write.
TEST_F(MemslotContentTest, NoLoadCoversAWrite) {
  constexpr uint64_t kFrames = 300;
  const auto memslot = Make(kFrames, PatternFrames(kFrames));
  {
    Runner loader([&] {
      for (uint64_t i = 0; i < kFrames; i += 10) {
        ASSERT_TRUE(memslot->LoadContent(Run(i, 10)).ok());
      }
    });
    for (uint64_t i = 0; i < kFrames; ++i) {
      const uint64_t frame = i ^ 1;
      if (frame % 3 == 0) {
        Write(*memslot, kStart + frame * kPageSize,
              std::string(kPageSize, '#'));
      } else {
        Write(*memslot, kStart + (frame * kPageSize + 100), "##");
      }
    }
  }
  std::string expected = PatternFrames(kFrames);
  for (uint64_t frame = 0; frame < kFrames; ++frame) {
    if (frame % 3 == 0) {
      expected.replace(frame * kPageSize, kPageSize, kPageSize, '#');
    } else {
      expected.replace(frame * kPageSize + 100, 2, "##");
    }
  }
  EXPECT_EQ(Read(*memslot, kStart, expected.size()), expected);
}

// Discards run against loads, maps and writes. A frame shows its old bytes,
// zero, or what was written; a frame that Map() took has its page.
TEST_F(MemslotContentTest, DiscardsAndMapsNeverMeetHalfWay) {
  const auto memslot = Make(8, PatternFrames(8));
  std::atomic<bool> stop{false};
  Runner discarder([&] {
    for (uint64_t i = 0; !stop.load(); ++i) {
      EXPECT_TRUE(
          memslot->DiscardContent(Run(i % 8, 1), &done_frames_, &freed_frames_)
              .ok());
    }
  });
  Runner writer([&] {
    uint64_t written = 0;
    for (uint64_t i = 0; !stop.load(); ++i) {
      EXPECT_TRUE(
          memslot->WriteBytes(kStart + (i % 8) * kPageSize + 5, "w", &written)
              .ok());
    }
  });
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(memslot->LoadContent(Run(0, 8)).ok());
    const HostCallResult result =
        memslot->Map(Run(0, 8), HostProtection::kReadWrite);
    if (result.error != 0) {
      ASSERT_EQ(result.error, EFAULT);
      ASSERT_LT(result.done_frames, 8u);
    }
    const std::string bytes = Read(*memslot, kStart + 4, 2);
    EXPECT_TRUE(bytes[0] == 'a' || bytes[0] == 0) << int{bytes[0]};
    EXPECT_TRUE(bytes[1] == 'a' || bytes[1] == 0 || bytes[1] == 'w');
    ASSERT_EQ(memslot->Unmap(Run(0, 8)).error, 0);
  }
  stop.store(true);
}

}  // namespace
}  // namespace tdp
