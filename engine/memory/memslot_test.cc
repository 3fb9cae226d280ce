// Creation and failure of a Memslot as a whole.

#include "engine/memory/memslot.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>

#include "engine/base/errors.h"
#include "engine/memory/memory_test_util.h"

namespace tdp {
namespace {

int64_t OpenFileCount() {
  int64_t count = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

MemslotOptions OptionsFor(uint64_t frames) {
  return {.name = "ram",
          .range = {Gfn(0x40100), Gfn(0x40100 + frames)},
          .base_pfn = Pfn(0x80100)};
}

TEST(MemslotTest, SaysWhatItWasCreatedWith) {
  MemslotOptions options = OptionsFor(8);
  options.read_only = true;
  options.max_fault_level = PageLevel::k2M;
  const absl::StatusOr<std::shared_ptr<Memslot>> memslot =
      Memslot::Create(std::move(options));
  ASSERT_TRUE(memslot.ok()) << memslot.status();
  EXPECT_EQ((*memslot)->name(), "ram");
  EXPECT_EQ((*memslot)->range(), (GfnRange{Gfn(0x40100), Gfn(0x40108)}));
  EXPECT_EQ((*memslot)->base_pfn(), Pfn(0x80100));
  EXPECT_FALSE((*memslot)->writable());
  EXPECT_EQ((*memslot)->max_fault_level(), PageLevel::k2M);
  EXPECT_EQ((*memslot)->size_bytes(), 8 * kPageSize);
  EXPECT_NE((*memslot)->window_hva(), Hva(0));
  EXPECT_FALSE((*memslot)->has_source());
}

TEST(MemslotTest, LeavesNoFileBehind) {
  const int64_t before = OpenFileCount();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(Memslot::Create(OptionsFor(8)).ok());
  }
  EXPECT_EQ(OpenFileCount(), before);
}

TEST(MemslotTest, WithoutAUserfaultfdThereIsNoMemslot) {
  const int64_t before = OpenFileCount();
  MemslotOptions options = OptionsFor(8);
  options.userfaultfd = {.device_path = "/nonexistent/device",
                         .use_system_call = false};
  EXPECT_EQ(ReasonOf(Memslot::Create(std::move(options)).status()),
            ErrorReason::kCapabilityMissing);
  EXPECT_EQ(OpenFileCount(), before);
}

// However few files the process may open, the failure is a limit and leaves
// nothing open.
TEST(MemslotTest, RunningOutOfFilesIsALimit) {
  const int64_t before = OpenFileCount();
  const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(next);
  rlimit old_limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old_limit), 0);
  int failures = 0;
  for (int more = 0; more < 16; ++more) {
    rlimit limit = old_limit;
    limit.rlim_cur = static_cast<rlim_t>(next + more);
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    const absl::Status status = Memslot::Create(OptionsFor(8)).status();
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old_limit), 0);
    if (status.ok()) break;
    ++failures;
    EXPECT_EQ(ReasonOf(status), ErrorReason::kLimitReached) << status;
  }
  EXPECT_GE(failures, 2);
  EXPECT_LT(failures, 16);
  EXPECT_EQ(OpenFileCount(), before);
}

TEST(MemslotTest, AbsurdSizesAreRefused) {
  EXPECT_EQ(ReasonOf(Memslot::Create(OptionsFor(uint64_t{1} << 36)).status()),
            ErrorReason::kFieldInvalid);
}

TEST(MemslotTest, ReadingFaultsNeverWaits) {
  const absl::StatusOr<std::shared_ptr<Memslot>> memslot =
      Memslot::Create(OptionsFor(200));
  ASSERT_TRUE(memslot.ok());
  FaultEvent events[100];
  EXPECT_EQ(*(*memslot)->ReadFaults(absl::MakeSpan(events)), 0u);
  EXPECT_EQ(*(*memslot)->ReadFaults({}), 0u);
}

}  // namespace
}  // namespace tdp
