// The verbs that change what page tables grant, seen by a guest that runs.

#include <algorithm>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/vm/vm_test_util.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr uint64_t kBlock = FramesPerEntry(PageLevel::k2M);
constexpr Access kNone = {};
constexpr Access kRead = {.read = true};
constexpr Access kReadWrite = {.read = true, .write = true};

class MmuChangesTest : public VmOnEachHypervisorTest {
 protected:
  static GfnRange Frames(uint64_t start, uint64_t end) {
    return {Gfn(start), Gfn(end)};
  }
  // A guest that touches `range` once, or until it is stopped.
  static void Load(Vm& vm, GfnRange range, bool write, int64_t passes = 1) {
    ASSERT_OK(vm.LoadGuest(
        -1, TouchGuestConfig{
                .range = range, .write = write, .pass_count = passes}));
  }
};

TEST_P(MmuChangesTest, AWriteBeyondALimitWaitsUntilTheLimitIsLifted) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  ASSERT_OK(vm.ProtectRange(Frames(8, 16), kRead, {}).status());
  MapAll(vm, Frames(0, 64), /*write=*/true);
  Load(vm, Frames(0, 64), /*write=*/true);
  ASSERT_OK(vm.Start().status());
  const WaitingAccess waiting = AwaitWaiting(vm, 0);
  EXPECT_EQ(waiting.gfn, Gfn(8));
  EXPECT_TRUE(waiting.access.write);
  EXPECT_EQ(waiting.cause, WaitCause::kProtection);
  EXPECT_EQ(waiting.detail, "ProtectRange limits the access");
  ExpectBytes(vm, 8 * kPageSize, 1, '\0');
  ExpectCleanAudit(vm, WholeRange(vm));
  ASSERT_OK(vm.ProtectRange(Frames(8, 16), kReadWrite, {}).status());
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 0, 64, '\x01');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(MmuChangesTest, AReadWithoutAnyAccessWaitsAndAWriteOfTheDaemonDoesNot) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  ASSERT_OK(vm.ProtectRange(Frames(5, 6), kNone, {}).status());
  Load(vm, Frames(0, 64), /*write=*/false);
  ASSERT_OK(vm.Start().status());
  const WaitingAccess waiting = AwaitWaiting(vm, 0);
  EXPECT_EQ(waiting.gfn, Gfn(5));
  EXPECT_EQ(waiting.cause, WaitCause::kProtection);
  EXPECT_OK(vm.WriteMemory(Gpa(5 * kPageSize), "by the host"));
  const auto batch = vm.ApplyBatch(
      std::vector<BatchOperation>{{.kind = BatchOperation::Kind::kProtect,
                                   .range = Frames(0, 64),
                                   .access = kReadWrite}});
  ASSERT_OK(batch.status());
  AwaitState(vm, VmState::kStopped);
}

TEST_P(MmuChangesTest, AWriteProtectedFrameFaultsOnceAndIsWritten) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  MapAll(vm, Frames(0, 64), /*write=*/true);
  const auto protect = vm.WriteProtectRange(Frames(0, 64), 0, {});
  ASSERT_OK(protect.status());
  EXPECT_EQ(protect->changed, 64);
  Load(vm, Frames(0, 64), /*write=*/true, /*passes=*/3);
  ASSERT_OK(vm.Start().status());
  AwaitState(vm, VmState::kStopped);
  EXPECT_EQ(vm.Stats().fault_write_protected_count, 64);
  ExpectBytes(vm, 0, 64, '\x03');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(MmuChangesTest, SplitAndCollapseUnderARunningGuestCauseNoFault) {
  constexpr uint64_t kFrames = 4 * kBlock;
  Vm& vm = CreateVm(GetParam(), 2);
  AddMemslot(vm, "ram", 0, kFrames);
  MapAll(vm, Frames(0, kFrames), /*write=*/true, /*max_level=*/2);
  EXPECT_EQ(vm.Stats().leaf_2m_count, 4);
  Load(vm, Frames(0, kFrames), /*write=*/true, /*passes=*/-1);
  ASSERT_OK(vm.Start().status());
  for (int i = 0; i < 20; ++i) {
    const auto split = vm.SplitHugePages(Frames(0, kFrames), 1, {});
    ASSERT_OK(split.status());
    EXPECT_EQ(split->changed, 4);
    EXPECT_EQ(vm.Stats().leaf_4k_count, static_cast<int64_t>(kFrames));
    ExpectCleanAudit(vm, WholeRange(vm));
    // An audit owns entries for moments: what was busy is taken up again.
    int64_t collapsed = 0;
    while (collapsed < 4) {
      const auto collapse = vm.CollapseHugePages(Frames(0, kFrames), 0, {});
      ASSERT_OK(collapse.status());
      collapsed += collapse->changed;
    }
    EXPECT_EQ(vm.Stats().leaf_2m_count, 4);
    EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
  }
  ASSERT_OK(vm.Stop().status());
  EXPECT_EQ(vm.Stats().fault_fixed_count, 0);
  EXPECT_EQ(vm.Stats().fault_write_protected_count, 0);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(MmuChangesTest, AgingFindsExactlyWhatTheGuestTouched) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 1024);
  MapAll(vm, Frames(0, 1024), /*write=*/true, /*max_level=*/1);
  ASSERT_OK(vm.AgeRange(Frames(0, 1024), {}, {}).status());
  Load(vm, Frames(100, 164), /*write=*/true);
  ASSERT_OK(vm.Start().status());
  AwaitState(vm, VmState::kStopped);
  const auto look =
      vm.AgeRange(Frames(70, 1024), {.test_only = true, .bitmap = true}, {});
  ASSERT_OK(look.status());
  EXPECT_EQ(look->young_frame_count, 64);
  EXPECT_EQ(look->next_gfn, Gfn(1024));
  ASSERT_TRUE(look->young.has_value());
  EXPECT_EQ(look->young->first_gfn, Gfn(64));
  EXPECT_EQ(look->young->frame_count, 1024 - 64);
  for (uint64_t gfn = 64; gfn < 1024; ++gfn) {
    const uint64_t i = gfn - 64;
    const bool young = (look->young->bits[i / 8] >> (i % 8) & 1) != 0;
    ASSERT_EQ(young, gfn >= 100 && gfn < 164) << gfn;
  }
  const auto age = vm.AgeRange(Frames(0, 1024), {}, {});
  ASSERT_OK(age.status());
  EXPECT_EQ(age->young_frame_count, 64);
  EXPECT_FALSE(age->young.has_value());
  ExpectBytes(vm, 100 * kPageSize, 64, '\x01');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(MmuChangesTest, EveryVerbUnderARunningGuestLosesNoWrite) {
  constexpr uint64_t kRounds = 20;
  constexpr uint64_t kFrames = 2 * kBlock;
  const GfnRange halves[] = {Frames(0, kBlock), Frames(kBlock, kFrames)};
  Vm& vm = CreateVm(GetParam(), 2);
  AddMemslot(vm, "ram", 0, kFrames);
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK(vm.LoadGuest(
        i,
        TouchGuestConfig{.range = halves[i], .write = true, .pass_count = -1}));
  }
  ASSERT_OK(vm.Start().status());
  const WorkBudget budget;
  const auto passes_done = [&] {
    return std::min(vm.GetVcpu(0)->touched_frame_count,
                    vm.GetVcpu(1)->touched_frame_count) /
           static_cast<int64_t>(kBlock);
  };
  const absl::Time end = absl::Now() + kPatience;
  for (uint64_t i = 0; i < kRounds || passes_done() < 2; ++i) {
    ASSERT_LT(absl::Now(), end) << "the guest gets nowhere";
    const GfnRange range = Frames(i * 37 % kBlock, kFrames - i % kBlock);
    ASSERT_OK(vm.WriteProtectRange(range, 0, budget).status());
    ASSERT_OK(vm.AgeRange(range, {}, budget).status());
    ASSERT_OK(vm.CollapseHugePages(Frames(0, kFrames), 0, budget).status());
    ASSERT_OK(vm.SplitHugePages(range, 1, budget).status());
    ASSERT_OK(vm.ProtectRange(range, i % 2 == 0 ? kRead : kReadWrite, budget)
                  .status());
    ASSERT_OK(vm.ProtectRange(range, kReadWrite, budget).status());
    const auto batch = vm.ApplyBatch(std::vector<BatchOperation>{
        {.kind = BatchOperation::Kind::kZap, .range = Frames(0, 100)},
        {.kind = BatchOperation::Kind::kMap,
         .range = Frames(200, 300),
         .write = true}});
    ASSERT_TRUE(batch.ok() || absl::IsAborted(batch.status()))
        << batch.status();
    ASSERT_OK(vm.ZapRange(range, budget).status());
    ExpectCleanAudit(vm, WholeRange(vm));
  }
  EXPECT_EQ(vm.Describe().state, VmState::kRunning);
  ASSERT_OK(vm.Stop().status());
  ExpectBytesOfPasses(vm, 0, halves[0]);
  ExpectBytesOfPasses(vm, 1, halves[1]);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(MmuChangesTest, AProtectRangeThatFailsLeavesNobodyWaiting) {
  constexpr uint64_t kBlocks = 20;
  const GfnRange range = Frames(kBlock / 2, 2 * kBlock);
  const GfnRange touched = Frames(kBlock + 1, 2 * kBlock);
  Vm& vm =
      CreateVm(GetParam(), 1,
               {.page_table_limit_bytes = limits::kMinPageTableLimitBytes});
  AddMemslot(vm, "ram", 0, kBlocks * kBlock);
  // The first leaf cannot be split, for want of tables; the frames behind it
  // have theirs.
  MapAll(vm, Frames(0, kBlocks * kBlock), /*write=*/true, /*max_level=*/2);
  absl::Status full;
  for (uint64_t block = 1; block < kBlocks && full.ok(); ++block) {
    const uint64_t first = block * kBlock;
    full = vm.SplitHugePages(Frames(first, first + kBlock), 1, {}).status();
  }
  ASSERT_EQ(ReasonOf(full), ErrorReason::kPageTableLimit);
  Load(vm, touched, /*write=*/true, /*passes=*/-1);
  ASSERT_OK(vm.Start().status());
  // A vCPU that faults while the limit stands for a moment comes to wait; how
  // often that happens is not the question.
  const auto waits = [&] { return vm.Stats().fault_outcomes[6].fault_count; };
  ASSERT_EQ(vm.Stats().fault_outcomes[6].outcome, "waiting");
  for (int i = 0; i < 2000 && waits() < 10; ++i) {
    ASSERT_OK(vm.ZapRange(touched, {}).status());
    for (int j = 0; j < 10 && waits() < 10; ++j) {
      ASSERT_EQ(ReasonOf(vm.ProtectRange(range, kNone, {}).status()),
                ErrorReason::kPageTableLimit);
    }
  }
  const int64_t before = vm.GetVcpu(0)->touched_frame_count;
  const absl::Time end = absl::Now() + kPatience;
  while (vm.GetVcpu(0)->touched_frame_count <
         before + 2 * static_cast<int64_t>(touched.size())) {
    ASSERT_LT(absl::Now(), end) << "the guest waits for ever";
    absl::SleepFor(absl::Microseconds(200));
  }
  ASSERT_OK(vm.Stop().status());
  ExpectBytesOfPasses(vm, 0, touched);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(MmuChangesTest, ABatchMapsSmallWhateverTheLargestMappingMayBe) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 4 * kBlock);
  for (int level = 0; level <= 2; ++level) {
    const uint64_t start = static_cast<uint64_t>(level) * kBlock;
    const auto batch = vm.ApplyBatch(
        std::vector<BatchOperation>{{.kind = BatchOperation::Kind::kMap,
                                     .range = Frames(start, start + kBlock),
                                     .level = level,
                                     .write = true}});
    ASSERT_OK(batch.status());
    EXPECT_EQ(batch->changed_spte_count, static_cast<int64_t>(kBlock));
  }
  EXPECT_EQ(vm.Stats().leaf_4k_count, static_cast<int64_t>(3 * kBlock));
  EXPECT_EQ(vm.Stats().leaf_2m_count, 0);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(MmuChangesTest, BadArgumentsChangeNothingAndSayWhat) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  const GfnRange range = Frames(0, 64);
  using Kind = BatchOperation::Kind;
  const auto apply = [&](std::vector<BatchOperation> operations) {
    return ReasonOf(vm.ApplyBatch(operations).status());
  };
  constexpr ErrorReason kInvalid = ErrorReason::kFieldInvalid;
  EXPECT_EQ(ReasonOf(vm.ProtectRange(range, {.write = true}, {}).status()),
            kInvalid);
  EXPECT_EQ(ReasonOf(vm.ProtectRange(Frames(0, 65), kRead, {}).status()),
            ErrorReason::kGfnNotBacked);
  EXPECT_EQ(ReasonOf(vm.WriteProtectRange(range, 4, {}).status()), kInvalid);
  EXPECT_EQ(ReasonOf(vm.SplitHugePages(range, 3, {}).status()), kInvalid);
  EXPECT_EQ(ReasonOf(vm.SplitHugePages(range, 0, {}).status()), kInvalid);
  EXPECT_EQ(ReasonOf(vm.CollapseHugePages(range, 1, {}).status()), kInvalid);
  EXPECT_EQ(ReasonOf(vm.CollapseHugePages(range, 4, {}).status()), kInvalid);
  EXPECT_EQ(ReasonOf(vm.AgeRange(Frames(5, 5), {}, {}).status()), kInvalid);
  EXPECT_EQ(ReasonOf(vm.AgeRange(Frames(0, limits::kMaxAgeBitmapFrames + 1),
                                 {.bitmap = true}, {})
                         .status()),
            kInvalid);
  EXPECT_OK(
      vm.AgeRange(Frames(0, limits::kMaxAgeBitmapFrames), {.bitmap = true}, {})
          .status());
  EXPECT_EQ(apply({}), kInvalid);
  EXPECT_EQ(apply(std::vector<BatchOperation>(
                limits::kMaxBatchOperations + 1,
                {.kind = Kind::kZap, .range = Frames(0, 1)})),
            kInvalid);
  EXPECT_EQ(apply({{.kind = Kind::kZap,
                    .range = Frames(0, limits::kMaxBatchFrames + 1)}}),
            kInvalid);
  EXPECT_EQ(apply({{.kind = Kind::kZap, .range = Frames(8, 8)}}), kInvalid);
  EXPECT_EQ(apply({{.kind = Kind::kZap, .range = Frames(10, 20)},
                   {.kind = Kind::kMap, .range = Frames(19, 30)}}),
            kInvalid);
  for (const int level : {-1, 3}) {
    EXPECT_EQ(apply({{.kind = Kind::kMap, .range = range, .level = level}}),
              kInvalid)
        << level;
  }
  EXPECT_EQ(apply({{.kind = Kind::kMap, .range = Frames(60, 70)}}),
            ErrorReason::kGfnNotBacked);
  EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
}

TEST_P(MmuChangesTest, ErrorsShowTheValueAskedFor) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  const GfnRange range = Frames(0, 64);
  using Kind = BatchOperation::Kind;
  EXPECT_EQ(vm.SplitHugePages(range, 3, {}).status().message(),
            "field target_level is PAGE_LEVEL_1G (3); it must be "
            "PAGE_LEVEL_4K or PAGE_LEVEL_2M");
  EXPECT_EQ(vm.MapRange(range, 4, true, {}).status().message(),
            "field max_level is PAGE_LEVEL_512G (4); it must be PAGE_LEVEL_4K, "
            "PAGE_LEVEL_2M or unspecified; larger mappings come from "
            "CollapseHugePages");
  EXPECT_EQ(vm.WriteProtectRange(range, 6, {}).status().message(),
            "field min_level is 6; it must be PAGE_LEVEL_4K, PAGE_LEVEL_2M, "
            "PAGE_LEVEL_1G or unspecified");
  const std::vector<BatchOperation> large = {
      {.kind = Kind::kZap, .range = Frames(0, limits::kMaxBatchFrames)},
      {.kind = Kind::kZap,
       .range = Frames(limits::kMaxBatchFrames, limits::kMaxBatchFrames + 7)}};
  EXPECT_EQ(vm.ApplyBatch(large).status().message(),
            "field operations is 16391 frames in all; it must be at most 16384 "
            "frames in all; send several batches");
}

TEST_P(MmuChangesTest, LimitsMoveWithTheirMemslotAndGoWithIt) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  AddMemslot(vm, "moving", 1024, 64);
  ASSERT_OK(vm.ProtectRange(Frames(1024, 1032), kRead, {}).status());
  ASSERT_OK(vm.UpdateMemslot("moving", {.base_gfn = Gfn(2048)}, "").status());
  Load(vm, Frames(2048, 2049), /*write=*/true);
  ASSERT_OK(vm.Start().status());
  EXPECT_EQ(AwaitWaiting(vm, 0).gfn, Gfn(2048));
  ASSERT_OK(vm.Stop().status());
  ASSERT_OK(vm.DeleteMemslot("moving", ""));
  AddMemslot(vm, "new", 2048, 64);
  ASSERT_OK(vm.Start().status());
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 2048 * kPageSize, 1, '\x01');
}

TEST_P(MmuChangesTest, ALimitLastsOverZapsMapsAndDiscards) {
  Vm& vm = CreateVm(GetParam(), 1);
  AddMemslot(vm, "ram", 0, 64);
  ASSERT_OK(vm.ProtectRange(Frames(8, 9), kRead, {}).status());
  ASSERT_OK(vm.ZapRange(Frames(0, 64), {}).status());
  MapAll(vm, Frames(0, 64), /*write=*/true);
  ASSERT_OK(vm.DiscardRange(Frames(0, 64), {}).status());
  ASSERT_OK(vm.ZapAll(/*wait=*/true).status());
  Load(vm, Frames(8, 9), /*write=*/true);
  ASSERT_OK(vm.Start().status());
  EXPECT_EQ(AwaitWaiting(vm, 0).cause, WaitCause::kProtection);
  ASSERT_OK(vm.Stop().status());
  ExpectBytes(vm, 8 * kPageSize, 1, '\0');
}

INSTANTIATE_ON_EACH_HYPERVISOR(MmuChangesTest);

}  // namespace
}  // namespace tdp
