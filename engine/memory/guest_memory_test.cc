#include "engine/memory/guest_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "engine/memory/memory_test_util.h"

namespace tdp {
namespace {

std::unique_ptr<GuestMemory> MakeMemory(uint64_t frames, HostCalls* calls) {
  absl::StatusOr<std::unique_ptr<GuestMemory>> memory =
      GuestMemory::Create("test", frames, calls);
  EXPECT_TRUE(memory.ok()) << memory.status();
  return *std::move(memory);
}

char* WindowOf(const GuestMemory& memory) {
  return reinterpret_cast<char*>(memory.window().value());
}

TEST(GuestMemoryTest, WindowAliasAndFileShowTheSameBytes) {
  HostCalls calls;
  const auto memory = MakeMemory(4, &calls);
  ASSERT_EQ(memory->Allocate(0, 4), 0);
  memory->Alias(1, 1)[5] = 'x';
  EXPECT_EQ(WindowOf(*memory)[kPageSize + 5], 'x');
  char byte = 0;
  EXPECT_EQ(memory->Read(kPageSize + 5, absl::MakeSpan(&byte, 1)), 0);
  EXPECT_EQ(byte, 'x');
  const char other = 'y';
  EXPECT_EQ(memory->Write(4 * kPageSize - 1, absl::MakeSpan(&other, 1)), 0);
  EXPECT_EQ(memory->Alias(3, 1).back(), 'y');
}

TEST(GuestMemoryTest, TheFileCanNeitherShrinkNorGrow) {
  HostCalls calls;
  const auto memory = MakeMemory(4, &calls);
  EXPECT_EQ(ftruncate(memory->fd(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(memory->fd(), 8 * kPageSize), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(fcntl(memory->fd(), F_ADD_SEALS, F_SEAL_WRITE), -1);
}

TEST(GuestMemoryTest, OnlyAllocatedFramesTakeMemory) {
  HostCalls calls;
  const uint64_t frames = uint64_t{64} << (30 - kPageShift);  // 64 GiB
  const auto memory = MakeMemory(frames, &calls);
  EXPECT_EQ(*memory->AllocatedBytes(), 0);
  // The first and the last frame.
  ASSERT_EQ(memory->Allocate(0, 1), 0);
  ASSERT_EQ(memory->Allocate(frames - 1, 1), 0);
  EXPECT_EQ(*memory->AllocatedBytes(), int64_t{2 * kPageSize});
  // Reading a hole gives zero and takes nothing.
  std::string bytes(3 * kPageSize, 'x');
  EXPECT_EQ(memory->Read(kPageSize, absl::MakeSpan(bytes)), 0);
  EXPECT_EQ(bytes, std::string(3 * kPageSize, '\0'));
  EXPECT_EQ(*memory->AllocatedBytes(), int64_t{2 * kPageSize});
}

TEST(GuestMemoryTest, AHoleReadsAsZeroAndGivesItsMemoryBack) {
  HostCalls calls;
  const auto memory = MakeMemory(4, &calls);
  ASSERT_EQ(memory->Allocate(0, 4), 0);
  memory->Alias(2, 1)[0] = 'x';
  memory->Alias(3, 1)[0] = 'y';
  ASSERT_EQ(memory->PunchHole(2, 1), 0);
  EXPECT_EQ(*memory->AllocatedBytes(), int64_t{3 * kPageSize});
  char byte = 1;
  EXPECT_EQ(memory->Read(2 * kPageSize, absl::MakeSpan(&byte, 1)), 0);
  EXPECT_EQ(byte, 0);
  EXPECT_EQ(memory->Alias(3, 1)[0], 'y');
}

TEST(GuestMemoryTest, AllocatingAgainKeepsTheBytes) {
  HostCalls calls;
  const auto memory = MakeMemory(2, &calls);
  ASSERT_EQ(memory->Allocate(1, 1), 0);
  memory->Alias(1, 1)[7] = 'x';
  ASSERT_EQ(memory->Allocate(0, 2), 0);
  EXPECT_EQ(memory->Alias(1, 1)[7], 'x');
}

TEST(GuestMemoryTest, AFullHostIsAnErrorAndAnInterruptionIsNot) {
  FakeHostCalls calls;
  int answers = 0;
  calls.on_fallocate = [&](int, uint64_t, uint64_t, int* error) {
    *error = answers++ == 0 ? EINTR : ENOSPC;
    return answers <= 2;
  };
  const auto memory = MakeMemory(2, &calls);
  EXPECT_EQ(memory->Allocate(0, 1), ENOSPC);
  EXPECT_EQ(answers, 2);
  EXPECT_EQ(memory->Allocate(0, 1), 0);
}

TEST(GuestMemoryTest, SizesThatNoAddressSpaceHoldsAreRefused) {
  HostCalls calls;
  const absl::StatusOr<std::unique_ptr<GuestMemory>> absurd =
      GuestMemory::Create("absurd", uint64_t{1} << 36, &calls);
  EXPECT_EQ(ReasonOf(absurd.status()), ErrorReason::kFieldInvalid);
  EXPECT_EQ(MetadataOf(absurd.status(), "field"), "memslot.frame_count");
  // Mapped twice, this one fills all there is.
  const absl::StatusOr<std::unique_ptr<GuestMemory>> large =
      GuestMemory::Create("large", uint64_t{1} << 34, &calls);
  EXPECT_EQ(ReasonOf(large.status()), ErrorReason::kHostMemoryExhausted);
}

TEST(GuestMemoryTest, AFailedAdviceFailsTheCreation) {
  FakeHostCalls calls;
  calls.on_madvise = [](int, int* error) {
    *error = ENOMEM;
    return true;
  };
  EXPECT_EQ(ReasonOf(GuestMemory::Create("test", 1, &calls).status()),
            ErrorReason::kHostMemoryExhausted);
}

}  // namespace
}  // namespace tdp
