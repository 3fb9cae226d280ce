// Memslots of 2M host pages: the host's pool, what the window maps, bytes and
// ejection.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <string>
#include <vector>

#include "engine/base/errors.h"
#include "engine/memory/memory_test_util.h"
#include "engine/memory/memslot.h"
#include "engine/testing/huge_page_pool.h"

namespace tdp {
namespace {

constexpr uint64_t kPageFrames = FramesPerEntry(PageLevel::k2M);
constexpr uint64_t kPageBytes = kPageFrames * kPageSize;
constexpr Gfn kBase(4 * kPageFrames);
constexpr uint64_t kPages = 4;

class MemslotHugePageTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!pool_.problem().empty()) GTEST_SKIP() << pool_.problem();
  }

  absl::StatusOr<std::shared_ptr<Memslot>> TryCreate(
      uint64_t pages, std::optional<FileSource> source = std::nullopt) {
    return Memslot::Create(
        {.name = "ram",
         .range = {kBase, kBase + pages * kPageFrames},
         .base_pfn = Pfn(kBase.value() + FramesPerEntry(PageLevel::k1G)),
         .host_page_level = PageLevel::k2M,
         .source = std::move(source),
         .host_calls = &calls_});
  }
  void Create(uint64_t pages = kPages) {
    auto memslot = TryCreate(pages);
    ASSERT_TRUE(memslot.ok()) << memslot.status();
    memslot_ = *std::move(memslot);
  }
  // Of `bytes`, and a memslot that is loaded from it.
  void CreateWithSource(const std::string& bytes) {
    directory_.Write("image", bytes);
    auto source =
        FileSource::Open({.image_dir = directory_.path(), .path = "image"});
    ASSERT_TRUE(source.ok()) << source.status();
    auto memslot = TryCreate(kPages, *std::move(source));
    ASSERT_TRUE(memslot.ok()) << memslot.status();
    memslot_ = *std::move(memslot);
  }

  static GfnRange Page(uint64_t first, uint64_t count = 1) {
    return {kBase + first * kPageFrames, kBase + (first + count) * kPageFrames};
  }
  static Gpa GpaIn(uint64_t page, uint64_t offset = 0) {
    return GpaOf(Page(page).start) + offset;
  }
  volatile char& Byte(uint64_t page, uint64_t offset = 0) {
    return *WindowByte(*memslot_, GpaIn(page, offset));
  }
  void Load(GfnRange run) {
    const absl::Status status = memslot_->LoadContent(run);
    ASSERT_TRUE(status.ok()) << status;
  }
  void Map(GfnRange run, HostProtection protection) {
    Load(run);
    const HostCallResult result = memslot_->Map(run, protection);
    ASSERT_EQ(result.error, 0);
    ASSERT_EQ(result.done_frames, run.size());
  }
  void ExpectHost(GfnRange run, bool present, bool writable) {
    std::vector<HostFrame> frames(run.size());
    ASSERT_TRUE(memslot_->Inspect(run, absl::MakeSpan(frames)).ok());
    for (uint64_t i = 0; i < run.size(); ++i) {
      ASSERT_EQ(frames[i].present, present) << (run.start + i).value();
      ASSERT_EQ(frames[i].writable, writable) << (run.start + i).value();
    }
  }
  std::string ReadBytes(Gpa gpa, uint64_t size) {
    std::string bytes(size, '?');
    const absl::Status status = memslot_->ReadBytes(gpa, absl::MakeSpan(bytes));
    EXPECT_TRUE(status.ok()) << status;
    return bytes;
  }
  void WriteBytes(Gpa gpa, absl::string_view bytes) {
    uint64_t written = 0;
    const absl::Status status = memslot_->WriteBytes(
        gpa, absl::MakeConstSpan(bytes.data(), bytes.size()), &written);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(written, bytes.size());
  }
  int64_t Discard(GfnRange run) {
    uint64_t done = 0;
    int64_t freed = 0;
    const absl::Status status = memslot_->DiscardContent(run, &done, &freed);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(done, run.size());
    return freed;
  }

  HugePagePool pool_{kPages};
  TempDir directory_;
  FakeHostCalls calls_;
  std::shared_ptr<Memslot> memslot_;
};

TEST_F(MemslotHugePageTest, TakesItsPagesAtCreationAndGivesThemBack) {
  Create(kPages);
  EXPECT_EQ(pool_.Free(), 0);
  EXPECT_EQ(*memslot_->AllocatedBytes(), int64_t{kPages * kPageBytes});
  EXPECT_EQ(memslot_->host_page_level(), PageLevel::k2M);
  EXPECT_EQ(memslot_->max_fault_level(), PageLevel::k2M);
  memslot_.reset();
  EXPECT_EQ(pool_.Free(), int64_t{kPages});
}

TEST_F(MemslotHugePageTest, AnEmptyPoolRefusesTheMemslotAndKeepsItsPages) {
  const absl::Status status = TryCreate(kPages + 1).status();
  EXPECT_EQ(ReasonOf(status), ErrorReason::kHostMemoryExhausted) << status;
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(MetadataOf(status, "neededPages"), "5");
  EXPECT_EQ(MetadataOf(status, "freePages"), "4");
  EXPECT_NE(status.message().find("/proc/sys/vm/nr_hugepages"),
            std::string::npos)
      << status;
  EXPECT_EQ(pool_.Free(), int64_t{kPages});
}

TEST_F(MemslotHugePageTest, AFailureAfterTheAllocationGivesThePagesBack) {
  calls_.on_madvise = [](int, int* error) {
    *error = ENOMEM;
    return true;
  };
  EXPECT_EQ(ReasonOf(TryCreate(kPages).status()),
            ErrorReason::kHostMemoryExhausted);
  EXPECT_EQ(pool_.Free(), int64_t{kPages});
}

TEST_F(MemslotHugePageTest, AMappedPageIsTouchedWithoutAFault) {
  Create();
  Map(Page(1, 2), HostProtection::kReadWrite);
  ExpectHost(Page(0), false, false);
  ExpectHost(Page(1, 2), true, true);
  ExpectHost(Page(3), false, false);
  Byte(1, kPageBytes - 1) = 'x';
  EXPECT_EQ(Byte(2), 0);
  EXPECT_EQ(ReadBytes(GpaIn(1, kPageBytes - 1), 1), "x");
  FaultEvent event;
  EXPECT_EQ(*memslot_->ReadFaults(absl::MakeSpan(&event, 1)), 0u);
}

TEST_F(MemslotHugePageTest, AFaultNamesItsFrameAndAWakeOfItWakesTheSleeper) {
  Create();
  Runner toucher([&] { Byte(2, 5 * kPageSize + 7) = 'x'; });
  const FaultEvent event = NextFault(*memslot_);
  EXPECT_EQ(event.gfn, Page(2).start + 5);
  EXPECT_TRUE(event.write);
  EXPECT_TRUE(event.minor);
  Map(Page(2), HostProtection::kReadWrite);
  toucher.WaitUntilAsleep();
  EXPECT_FALSE(toucher.done());
  // Any frame of the page stands for it.
  memslot_->Wake({Page(2).start, Page(2).start + 1});
  toucher.Join();
  EXPECT_EQ(Byte(2, 5 * kPageSize + 7), 'x');
}

TEST_F(MemslotHugePageTest, ProtectingAPageMakesItsWritesFault) {
  Create();
  Map(Page(0, 2), HostProtection::kReadWrite);
  ASSERT_EQ(memslot_->Protect(Page(0), HostProtection::kReadOnly).error, 0);
  ExpectHost(Page(0), true, false);
  ExpectHost(Page(1), true, true);
  EXPECT_EQ(Byte(0), 0);
  Runner writer([&] { Byte(0, kPageSize) = 'x'; });
  const FaultEvent event = NextFault(*memslot_);
  EXPECT_EQ(event.gfn, Page(0).start + 1);
  EXPECT_TRUE(event.write_protect);
  ASSERT_EQ(memslot_->Protect(Page(0), HostProtection::kReadWrite).error, 0);
  memslot_->Wake(Page(0));
  writer.Join();
  EXPECT_EQ(Byte(0, kPageSize), 'x');
}

TEST_F(MemslotHugePageTest, MappingReadOnlyOverAMappedPageTakesWritingAway) {
  Create();
  Map(Page(1), HostProtection::kReadWrite);
  Map(Page(0, 3), HostProtection::kReadOnly);
  ExpectHost(Page(0, 3), true, false);
}

TEST_F(MemslotHugePageTest, UnmappingKeepsTheBytesAndThePage) {
  Create();
  Map(Page(0), HostProtection::kReadWrite);
  Byte(0, 12345) = 'x';
  ASSERT_EQ(memslot_->Unmap(Page(0)).error, 0);
  ExpectHost(Page(0), false, false);
  EXPECT_EQ(pool_.Free(), 0);
  Map(Page(0), HostProtection::kReadOnly);
  EXPECT_EQ(Byte(0, 12345), 'x');
}

TEST_F(MemslotHugePageTest, AMapStopsAtAPageWithoutContent) {
  Create();
  Load(Page(0, 4));
  EXPECT_EQ(Discard(Page(2)), int64_t{kPageFrames});
  const HostCallResult result =
      memslot_->Map(Page(0, 4), HostProtection::kReadWrite);
  EXPECT_EQ(result.error, EFAULT);
  EXPECT_EQ(result.done_frames, 2 * kPageFrames);
  ExpectHost(Page(0, 2), true, true);
  ExpectHost(Page(2, 2), false, false);
}

TEST_F(MemslotHugePageTest, DiscardGivesEachPageBackOnceAndItReadsAsZero) {
  Create();
  WriteBytes(GpaIn(1, 100), "bytes");
  // One that was written, one that was never used.
  EXPECT_EQ(Discard(Page(1, 2)), int64_t{2 * kPageFrames});
  EXPECT_EQ(pool_.Free(), 2);
  EXPECT_EQ(*memslot_->AllocatedBytes(), int64_t{2 * kPageBytes});
  EXPECT_EQ(Discard(Page(1, 2)), 0);
  EXPECT_EQ(ReadBytes(GpaIn(1, 100), 5), std::string(5, '\0'));
  EXPECT_EQ(pool_.Free(), 2) << "reading allocates nothing";
  // The next use takes one again.
  WriteBytes(GpaIn(1, 200), "more");
  EXPECT_EQ(pool_.Free(), 1);
  EXPECT_EQ(ReadBytes(GpaIn(1, 200), 4), "more");
  Map(Page(2), HostProtection::kReadWrite);
  EXPECT_EQ(pool_.Free(), 0);
  EXPECT_EQ(Byte(2), 0);
  ASSERT_EQ(memslot_->Unmap(Page(2)).error, 0);
  EXPECT_EQ(Discard(Page(0, 4)), int64_t{4 * kPageFrames});
  EXPECT_EQ(pool_.Free(), int64_t{kPages});
}

TEST_F(MemslotHugePageTest, WithoutAPageInThePoolADiscardedOneCannotComeBack) {
  Create();
  EXPECT_EQ(Discard(Page(3)), int64_t{kPageFrames});
  ASSERT_TRUE(pool_.Hold(1));
  const absl::Status load = memslot_->LoadContent(Page(3));
  EXPECT_EQ(ReasonOf(load), ErrorReason::kHostMemoryExhausted) << load;
  EXPECT_NE(load.message().find("/proc/sys/vm/nr_hugepages"), std::string::npos)
      << load;
  uint64_t written = 0;
  const char byte = 'x';
  EXPECT_EQ(ReasonOf(memslot_->WriteBytes(
                GpaIn(3, 7), absl::MakeConstSpan(&byte, 1), &written)),
            ErrorReason::kHostMemoryExhausted);
  EXPECT_EQ(written, 0u);
  EXPECT_EQ(ReadBytes(GpaIn(3, 7), 1), std::string(1, '\0'));
  EXPECT_EQ(memslot_->Map(Page(3), HostProtection::kReadWrite).error, EFAULT);
  pool_.LetGo();
  WriteBytes(GpaIn(3, 7), "x");
  EXPECT_EQ(ReadBytes(GpaIn(3, 7), 1), "x");
}

TEST_F(MemslotHugePageTest, WritesReachTheGuestAcrossPages) {
  Create();
  Map(Page(0, 2), HostProtection::kReadWrite);
  WriteBytes(GpaIn(0, kPageBytes - 2), "abcd");
  EXPECT_EQ(Byte(0, kPageBytes - 1), 'b');
  EXPECT_EQ(Byte(1, 0), 'c');
  EXPECT_EQ(ReadBytes(GpaIn(0, kPageBytes - 2), 4), "abcd");
}

TEST_F(MemslotHugePageTest, ASourceFillsWholePagesAndZeroFollowsItsEnd) {
  CreateWithSource(PatternFrames(kPageFrames + 3) + "tail");
  EXPECT_EQ(ReadBytes(GpaIn(1, 0), 1), std::string(1, 'a' + 512 % 26));
  Map(Page(0, 4), HostProtection::kReadWrite);
  for (uint64_t frame : {uint64_t{0}, uint64_t{511}, uint64_t{514}}) {
    EXPECT_EQ(Byte(0, frame * kPageSize), static_cast<char>('a' + frame % 26));
  }
  EXPECT_EQ(Byte(1, 3 * kPageSize), 't');
  EXPECT_EQ(Byte(1, 4 * kPageSize), 0);
  EXPECT_EQ(Byte(3), 0);
}

TEST_F(MemslotHugePageTest, WritingAPartOfASourcePageLoadsTheRest) {
  CreateWithSource(PatternFrames(kPageFrames));
  WriteBytes(GpaIn(0, 10), "XY");
  EXPECT_EQ(ReadBytes(GpaIn(0, 9), 4), "aXYa");
  EXPECT_EQ(ReadBytes(GpaIn(0, 511 * kPageSize), 1),
            std::string(1, 'a' + 511 % 26));
}

TEST_F(MemslotHugePageTest, APageOfAFileIsLeftToALoaderUntilItIsThere) {
  CreateWithSource(PatternFrames(2 * kPageFrames));
  // One frame in the host's cache says nothing about the others.
  EXPECT_FALSE(memslot_->LoadsQuickly(Page(1).start + 7));
  Load(Page(1));
  EXPECT_TRUE(memslot_->LoadsQuickly(Page(1).start + 7));
  EXPECT_EQ(memslot_->ReadyAround(Page(1).start + 7, Page(0, 3)), Page(1));
  Discard(Page(0));
  EXPECT_TRUE(memslot_->LoadsQuickly(Page(0).start)) << "zero";
}

TEST_F(MemslotHugePageTest, AFailedSourceKeepsThePageAndIsTriedAgain) {
  CreateWithSource(PatternFrames(2 * kPageFrames));
  int64_t reads = 0;
  calls_.on_pread = [&](uint64_t, size_t, ssize_t* result) {
    if (++reads == 1) {
      *result = kPageSize;  // less than asked
      return true;
    }
    errno = EIO;
    *result = -1;
    return reads == 2;
  };
  const absl::Status status = memslot_->LoadContent(Page(1));
  EXPECT_EQ(ReasonOf(status), ErrorReason::kSourceFailed) << status;
  EXPECT_EQ(pool_.Free(), 0) << "nobody else may take the page";
  EXPECT_EQ(memslot_->LoadContent(Page(1)), absl::OkStatus());
  Map(Page(1), HostProtection::kReadWrite);
  EXPECT_EQ(Byte(1, 0), static_cast<char>('a' + 512 % 26));
  EXPECT_EQ(Byte(1, 511 * kPageSize), static_cast<char>('a' + 1023 % 26));
}

TEST_F(MemslotHugePageTest, ADiscardedSourcePageIsZeroAndItsPageFree) {
  CreateWithSource(PatternFrames(2 * kPageFrames));
  // Never loaded, but it has its page.
  EXPECT_EQ(Discard(Page(0)), int64_t{kPageFrames});
  EXPECT_EQ(pool_.Free(), 1);
  EXPECT_EQ(Discard(Page(0)), 0);
  EXPECT_EQ(ReadBytes(GpaIn(0), 1), std::string(1, '\0'));
  Map(Page(0), HostProtection::kReadWrite);
  EXPECT_EQ(Byte(0), 0);
}

TEST_F(MemslotHugePageTest, AFailedPunchKeepsTheBytesAndCanBeRepeated) {
  Create();
  WriteBytes(GpaIn(0), "x");
  bool failed = false;
  calls_.on_fallocate = [&](int mode, uint64_t, uint64_t, int* error) {
    if (mode == 0 || failed) return false;
    failed = true;
    *error = EIO;
    return true;
  };
  uint64_t done = 0;
  int64_t freed = 0;
  EXPECT_FALSE(memslot_->DiscardContent(Page(0), &done, &freed).ok());
  EXPECT_EQ(done, 0u);
  EXPECT_EQ(freed, 0);
  EXPECT_EQ(ReadBytes(GpaIn(0), 1), "x");
  EXPECT_EQ(Discard(Page(0)), int64_t{kPageFrames});
  EXPECT_EQ(pool_.Free(), 1);
}

TEST_F(MemslotHugePageTest, AGrantedWriteIsMarkedForTheWholePage) {
  Create();
  DirtyLog& log = memslot_->dirty_log();
  const DirtyConsumer consumer;
  ASSERT_TRUE(log.AddConsumer(consumer, /*all_set=*/false).ok());
  log.set_mode(DirtyLog::Mode::kTracks);
  memslot_->NoteWritten(Page(1).start + 300);
  std::vector<uint64_t> words(3 * kPageFrames / 64);
  ASSERT_EQ(log.Read(consumer, kBase, kBase, absl::MakeSpan(words)),
            DirtyLog::Answer::kDone);
  for (size_t i = 0; i < words.size(); ++i) {
    const bool in_page = i / (kPageFrames / 64) == 1;
    EXPECT_EQ(words[i], in_page ? ~uint64_t{0} : 0) << i;
  }
}

TEST_F(MemslotHugePageTest, RefusingAFrameRefusesItsPageAndNoOther) {
  Create();
  Map(Page(0, 3), HostProtection::kReadOnly);
  ASSERT_TRUE(memslot_->Refuse(Page(1).start + 9).ok());
  ASSERT_TRUE(memslot_->Refuse(Page(1).start + 10).ok());
  EXPECT_EQ(memslot_->RefusedCount(), 1);
  EXPECT_EQ(KernelRead(*memslot_, GpaIn(0)), 0);
  EXPECT_EQ(KernelRead(*memslot_, GpaIn(1)), EFAULT);
  EXPECT_EQ(KernelRead(*memslot_, GpaIn(1, kPageBytes - 1)), EFAULT);
  EXPECT_EQ(KernelRead(*memslot_, GpaIn(2)), 0);
  ASSERT_TRUE(memslot_->Admit(Page(1).start + 10).ok());
  EXPECT_EQ(KernelRead(*memslot_, GpaIn(1)), EFAULT);
  ASSERT_TRUE(memslot_->Admit(Page(1).start + 9).ok());
  EXPECT_EQ(KernelRead(*memslot_, GpaIn(1)), 0);
  // It is mapped as it was.
  ExpectHost(Page(0, 3), true, false);
}

TEST_F(MemslotHugePageTest, ASleeperOfARefusedPageLeavesTheKernel) {
  Create();
  int result = 0;
  Runner sleeper(
      [&] { result = KernelRead(*memslot_, GpaIn(2, 3 * kPageSize)); });
  const FaultEvent event = NextFault(*memslot_);
  ASSERT_TRUE(memslot_->Refuse(event.gfn).ok());
  sleeper.Join();
  EXPECT_EQ(result, EFAULT);
  ASSERT_TRUE(memslot_->Admit(event.gfn).ok());
}

TEST_F(MemslotHugePageTest, ARunIsMappedAroundARefusedPage) {
  Create();
  Load(Page(0, 4));
  ASSERT_TRUE(memslot_->Refuse(Page(2).start).ok());
  const HostCallResult result =
      memslot_->Map(Page(0, 4), HostProtection::kReadWrite);
  EXPECT_EQ(result.error, 0);
  EXPECT_EQ(result.done_frames, 4 * kPageFrames);
  ASSERT_TRUE(memslot_->Admit(Page(2).start).ok());
  ExpectHost(Page(0, 4), true, true);
}

TEST_F(MemslotHugePageTest, AMapIsRepeatedInWholePages) {
  Create();
  Load(Page(0, 4));
  int calls = 0;
  std::vector<uint64_t> sizes;
  calls_.on_continue = [&](Hva, uint64_t bytes, ContinueResult* result) {
    sizes.push_back(bytes);
    if (++calls > 1) return false;
    *result = {EAGAIN, -EAGAIN};
    return true;
  };
  EXPECT_EQ(memslot_->Map(Page(0, 4), HostProtection::kReadWrite).error, 0);
  for (const uint64_t size : sizes) EXPECT_EQ(size % kPageBytes, 0u);
  ExpectHost(Page(0, 4), true, true);
}

}  // namespace
}  // namespace tdp
