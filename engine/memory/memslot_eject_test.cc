// Ejection: accesses that are refused, and given back.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>

#include "engine/base/errors.h"
#include "engine/memory/memory_test_util.h"
#include "engine/memory/memslot.h"

namespace tdp {
namespace {

constexpr Gfn kBase(0x40000);
constexpr uint64_t kFrames = 8;

class MemslotEjectTest : public testing::Test {
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

  void Map(Gfn gfn, HostProtection protection) {
    ASSERT_TRUE(memslot_->LoadContent({gfn, gfn + 1}).ok());
    ASSERT_EQ(memslot_->Map({gfn, gfn + 1}, protection).error, 0);
  }

  int Touch(Gfn gfn) { return KernelRead(*memslot_, GpaOf(gfn)); }

  FakeHostCalls calls_;
  std::shared_ptr<Memslot> memslot_;
};

TEST_F(MemslotEjectTest, ASleeperLeavesTheKernelWithoutTheAccess) {
  int result = 0;
  Runner sleeper([&] { result = Touch(kBase); });
  EXPECT_EQ(NextFault(*memslot_).gfn, kBase);
  ASSERT_TRUE(memslot_->Refuse(kBase).ok());
  sleeper.Join();
  EXPECT_EQ(result, EFAULT);
  EXPECT_EQ(memslot_->RefusedCount(), 1);
  EXPECT_EQ(*memslot_->AllocatedBytes(), 0);

  // After the verdict it comes back and sleeps again.
  ASSERT_TRUE(memslot_->Admit(kBase).ok());
  EXPECT_EQ(memslot_->RefusedCount(), 0);
  Runner again([&] { result = Touch(kBase); });
  EXPECT_EQ(NextFault(*memslot_).gfn, kBase);
  Map(kBase, HostProtection::kReadWrite);
  memslot_->Wake({kBase, kBase + 1});
  again.Join();
  EXPECT_EQ(result, 0);
}

TEST_F(MemslotEjectTest, TheFirstAndTheLastFrameKeepTheirNeighbours) {
  for (uint64_t i = 0; i < kFrames; ++i) {
    Map(kBase + i, HostProtection::kReadWrite);
  }
  ASSERT_TRUE(memslot_->Refuse(kBase).ok());
  ASSERT_TRUE(memslot_->Refuse(kBase + (kFrames - 1)).ok());
  EXPECT_EQ(Touch(kBase), EFAULT);
  EXPECT_EQ(Touch(kBase + 1), 0);
  EXPECT_EQ(Touch(kBase + (kFrames - 2)), 0);
  EXPECT_EQ(Touch(kBase + (kFrames - 1)), EFAULT);
  EXPECT_EQ(memslot_->RefusedCount(), 2);
  ASSERT_TRUE(memslot_->Admit(kBase).ok());
  ASSERT_TRUE(memslot_->Admit(kBase + (kFrames - 1)).ok());
  EXPECT_EQ(Touch(kBase), 0);
}

TEST_F(MemslotEjectTest, EachRefusalNeedsAnAdmission) {
  Map(kBase, HostProtection::kReadWrite);
  ASSERT_TRUE(memslot_->Refuse(kBase).ok());
  ASSERT_TRUE(memslot_->Refuse(kBase).ok());
  ASSERT_TRUE(memslot_->Admit(kBase).ok());
  EXPECT_EQ(Touch(kBase), EFAULT);
  EXPECT_EQ(memslot_->RefusedCount(), 1);
  ASSERT_TRUE(memslot_->Admit(kBase).ok());
  EXPECT_EQ(Touch(kBase), 0);
  EXPECT_EQ(ReasonOf(memslot_->Admit(kBase)), ErrorReason::kInternal);
}

TEST_F(MemslotEjectTest, RefusalKeepsMappingAndProtection) {
  Map(kBase, HostProtection::kReadOnly);
  ASSERT_TRUE(memslot_->Refuse(kBase).ok());
  ASSERT_TRUE(memslot_->Admit(kBase).ok());
  HostFrame frame;
  ASSERT_TRUE(
      memslot_->Inspect({kBase, kBase + 1}, absl::MakeSpan(&frame, 1)).ok());
  EXPECT_TRUE(frame.present);
  EXPECT_FALSE(frame.writable);
  Runner writer([&] { *WindowByte(*memslot_, GpaOf(kBase)) = 'x'; });
  EXPECT_TRUE(NextFault(*memslot_).write_protect);
  ASSERT_EQ(
      memslot_->Protect({kBase, kBase + 1}, HostProtection::kReadWrite).error,
      0);
  memslot_->Wake({kBase, kBase + 1});
}

TEST_F(MemslotEjectTest, AFrameMappedWhileRefusedIsThereOnceAdmitted) {
  ASSERT_TRUE(memslot_->Refuse(kBase + 1).ok());
  Map(kBase + 1, HostProtection::kReadOnly);
  EXPECT_EQ(Touch(kBase + 1), EFAULT);
  ASSERT_TRUE(memslot_->Admit(kBase + 1).ok());
  EXPECT_EQ(Touch(kBase + 1), 0);
}

TEST_F(MemslotEjectTest, AFailedProtectionChangesNothing) {
  Map(kBase, HostProtection::kReadWrite);
  bool fail = true;
  calls_.on_mprotect = [&](int, int* error) {
    *error = ENOMEM;
    return fail;
  };
  EXPECT_FALSE(memslot_->Refuse(kBase).ok());
  EXPECT_EQ(memslot_->RefusedCount(), 0);
  EXPECT_EQ(Touch(kBase), 0);
  fail = false;
  ASSERT_TRUE(memslot_->Refuse(kBase).ok());
  fail = true;
  EXPECT_FALSE(memslot_->Admit(kBase).ok());
  EXPECT_EQ(memslot_->RefusedCount(), 1);
  fail = false;
  EXPECT_TRUE(memslot_->Admit(kBase).ok());
  EXPECT_EQ(Touch(kBase), 0);
}

// Two threads refuse and admit the same frames while a third looks: whoever
// holds a refusal sees it in force, and none is left behind.
TEST_F(MemslotEjectTest, RefusalsOfTwoThreadsDoNotUndoEachOther) {
  for (uint64_t i = 0; i < 2; ++i) Map(kBase + i, HostProtection::kReadWrite);
  std::atomic<int> failures{0};
  const auto work = [&](uint64_t offset) {
    for (uint64_t i = 0; i < 300; ++i) {
      const Gfn gfn = kBase + (i + offset) % 2;
      if (!memslot_->Refuse(gfn).ok()) ++failures;
      if (Touch(gfn) != EFAULT) ++failures;
      if (!memslot_->Admit(gfn).ok()) ++failures;
    }
  };
  {
    Runner other([&] { work(1); });
    work(0);
  }
  EXPECT_EQ(failures.load(), 0);
  EXPECT_EQ(memslot_->RefusedCount(), 0);
  EXPECT_EQ(Touch(kBase), 0);
  EXPECT_EQ(Touch(kBase + 1), 0);
}

}  // namespace
}  // namespace tdp
