// Guests on 2M host pages: the dirty log, accesses that wait, discards, and
// pages that come and go.

#include <atomic>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/errors.h"
#include "engine/vm/vm_huge_page_test_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using ::testing::IsEmpty;

const MemslotConfig kTracked = {.dirty_log_enabled = true,
                                .dirty_mode = DirtyMode::kWriteProtect};
const MemslotConfig kHarvested = {.dirty_log_enabled = true,
                                  .dirty_mode = DirtyMode::kHarvest};

class VmHugePageGuestTest : public VmHugePageFixture {
 protected:
  static std::set<uint64_t> Dirty(Vm& vm) {
    const auto bitmap = vm.ReadDirtyLog("ram", "", WholeRange(vm));
    EXPECT_OK(bitmap.status());
    std::set<uint64_t> frames;
    for (size_t i = 0; bitmap.ok() && i < bitmap->bits.size() * 8; ++i) {
      if ((static_cast<uint8_t>(bitmap->bits[i / 8]) >> (i % 8) & 1) != 0) {
        frames.insert(bitmap->first_gfn.value() + i);
      }
    }
    return frames;
  }
  static void Clear(Vm& vm, const std::set<uint64_t>& frames) {
    FrameBitmap bits = {.first_gfn = WholeRange(vm).start};
    const uint64_t count = WholeRange(vm).size();
    bits.frame_count = static_cast<int64_t>(count);
    bits.bits.assign(count / 8, '\0');
    for (const uint64_t gfn : frames) {
      const uint64_t i = gfn - bits.first_gfn.value();
      bits.bits[i / 8] = static_cast<char>(bits.bits[i / 8] | 1 << (i % 8));
    }
    ASSERT_OK(vm.ClearDirtyLog("ram", "", bits).status());
  }
  static std::set<uint64_t> Set(GfnRange range) {
    std::set<uint64_t> frames;
    for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
      frames.insert(gfn.value());
    }
    return frames;
  }
};

TEST_P(VmHugePageGuestTest, CodeRunsFromAPageAndWritesToAnother) {
  if (GetParam() != HypervisorKind::kKvm) return;  // runs no code
  Vm& vm = VmWithPages(2);
  // mov byte ptr [0x200042], 0x42; hlt
  ASSERT_OK(vm.LoadGuest(
      0, CodeGuestConfig{std::string("\xc6\x04\x25\x42\x00\x20\x00\x42\xf4", 9),
                         Gpa(0x1000), CodeMode::kLong}));
  RunToEnd(vm);
  EXPECT_EQ(vm.GetVcpu(0)->exit_reason, "HLT");
  EXPECT_EQ(vm.Stats().fault_fixed_count, 2);
  EXPECT_EQ(*vm.ReadMemory(Gpa(0x200042), 1), "\x42");
  EXPECT_EQ(vm.Stats().leaf_2m_count, 2);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VmHugePageGuestTest, AWriteMakesItsWholePageDirty) {
  Vm& vm = VmWithPages(4, kTracked);
  MapAll(vm, WholeRange(vm), /*write=*/true);
  EXPECT_THAT(Dirty(vm), IsEmpty());
  Touch(vm, Frames(kPage + 7, kPage + 8), /*write=*/true);
  Touch(vm, Frames(3 * kPage, 3 * kPage + 1), /*write=*/false);
  EXPECT_EQ(Dirty(vm), Set(Frames(kPage, 2 * kPage)));
  EXPECT_EQ(vm.Stats().leaf_2m_count, 4) << "no page is split for the log";
  EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VmHugePageGuestTest, ClearingAPartOfAPageProtectsAllOfIt) {
  Vm& vm = VmWithPages(2, kTracked);
  Touch(vm, Frames(0, 1), /*write=*/true);
  const std::set<uint64_t> part = Set(Frames(100, 130));
  Clear(vm, part);
  std::set<uint64_t> rest = Set(Frames(0, kPage));
  for (const uint64_t gfn : part) rest.erase(gfn);
  EXPECT_EQ(Dirty(vm), rest) << "the other bits stay";
  // A write to any frame of the page is noticed, of which all are dirty then.
  Touch(vm, Frames(500, 501), /*write=*/true);
  EXPECT_EQ(Dirty(vm), Set(Frames(0, kPage)));
  Clear(vm, Set(Frames(0, kPage)));
  EXPECT_THAT(Dirty(vm), IsEmpty());
  Touch(vm, Frames(511, 513), /*write=*/true);
  EXPECT_EQ(Dirty(vm), Set(Frames(0, 2 * kPage)));
}

TEST_P(VmHugePageGuestTest, AHarvestFindsTheWriteAndNoOtherPage) {
  Vm& vm = VmWithPages(3, kHarvested);
  MapAll(vm, WholeRange(vm), /*write=*/true);
  EXPECT_THAT(Dirty(vm), IsEmpty());
  for (const uint64_t gfn : {kPage + 7, kPage + 8, 3 * kPage - 1}) {
    Touch(vm, Frames(gfn, gfn + 1), /*write=*/true);
    const std::set<uint64_t> dirty = Dirty(vm);
    EXPECT_TRUE(dirty.contains(gfn));
    for (const uint64_t other : dirty) {
      EXPECT_EQ(other / kPage, gfn / kPage) << other;
    }
    Clear(vm, dirty);
    EXPECT_THAT(Dirty(vm), IsEmpty());
  }
  EXPECT_EQ(vm.Stats().leaf_2m_count, 3);
  EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
  ExpectCleanAudit(vm, WholeRange(vm));
}

// What a live migration does, while others change everything.
class VmHugePageCopyTest : public VmHugePageGuestTest {
 protected:
  void CopyWhileAllChanges(DirtyMode mode);
};

void VmHugePageCopyTest::CopyWhileAllChanges(DirtyMode mode) {
  Vm& vm = VmWithPages(3, {.dirty_mode = mode}, /*vcpus=*/2);
  const GfnRange all = WholeRange(vm);
  ASSERT_OK(
      vm.LoadGuest(-1, TouchGuestConfig{.range = all,
                                        .pattern = TouchPattern::kShuffled,
                                        .write = true,
                                        .pass_count = -1}));
  ASSERT_OK(vm.Start().status());
  ASSERT_OK(vm.UpdateMemslot(
                  "ram",
                  {.dirty_log_enabled = true, .dirty_log_initially_set = true},
                  "")
                .status());
  std::vector<std::string> copy(all.size());
  const auto copy_dirty = [&] {
    // Parts that cut the pages.
    std::vector<std::set<uint64_t>> parts(7);
    for (const uint64_t gfn : Dirty(vm)) parts[gfn / 250].insert(gfn);
    for (const std::set<uint64_t>& part : parts) {
      Clear(vm, part);
      for (const uint64_t gfn : part) {
        const auto bytes = vm.ReadMemory(GpaOf(Gfn(gfn)), kPageSize);
        ASSERT_OK(bytes.status());
        copy[gfn] = *bytes;
      }
    }
  };
  std::atomic<bool> done{false};
  std::thread changer([&] {
    for (uint64_t i = 0; !done; ++i) {
      const uint64_t page = i % 3;
      const GfnRange some = Frames(page * kPage, (page + 1) * kPage);
      EXPECT_OK(vm.ZapRange(some, Unhurried()).status());
      EXPECT_OK(vm.MapRange(all, 0, true, Unhurried()).status());
      EXPECT_OK(vm.AgeRange(all, {}, Unhurried()).status());
      // A window that notes writes holds none back.
      if (mode == DirtyMode::kWriteProtect) {
        EXPECT_OK(vm.WriteProtectRange(some, 0, Unhurried()).status());
      }
      EXPECT_OK(vm.CollapseHugePages(all, 3, Unhurried()).status());
      if (i % 16 == 0) EXPECT_OK(vm.ZapAll(/*wait=*/false).status());
    }
  });
  for (int rounds = 0; rounds < 30; ++rounds) copy_dirty();
  done = true;
  changer.join();
  ASSERT_OK(vm.Stop().status());
  copy_dirty();
  for (uint64_t gfn = 0; gfn < copy.size(); ++gfn) {
    ASSERT_EQ(*vm.ReadMemory(GpaOf(Gfn(gfn)), kPageSize), copy[gfn]) << gfn;
  }
  EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
  ExpectCleanAudit(vm, all);
}

TEST_P(VmHugePageCopyTest, ACopyByATrackedLogEqualsTheMemory) {
  CopyWhileAllChanges(DirtyMode::kWriteProtect);
}
TEST_P(VmHugePageCopyTest, ACopyByAHarvestedLogEqualsTheMemory) {
  CopyWhileAllChanges(DirtyMode::kHarvest);
}

TEST_P(VmHugePageGuestTest, AGuestKeepsItsBytesWhileItsPagesComeAndGo) {
  Vm& vm = VmWithPages(4);
  const GfnRange all = WholeRange(vm);
  Load(vm, all, /*write=*/true, /*passes=*/-1);
  ASSERT_OK(vm.Start().status());
  std::atomic<bool> done{false};
  std::thread zapper([&] {
    for (uint64_t i = 0; !done; ++i) {
      const uint64_t page = i % 4;
      EXPECT_OK(
          vm.ZapRange(Frames(page * kPage, (page + 1) * kPage), Unhurried())
              .status());
      if (i % 8 == 0) EXPECT_OK(vm.ZapAll(/*wait=*/i % 16 == 0).status());
    }
  });
  std::atomic<int> batches{0};
  std::thread limiter([&] {
    while (!done) {
      EXPECT_OK(vm.ProtectRange(all, {.read = true}, Unhurried()).status());
      EXPECT_OK(vm.ProtectRange(all, {.read = true, .write = true}, Unhurried())
                    .status());
      EXPECT_OK(vm.MapRange(all, 0, true, Unhurried()).status());
      const absl::Status batch =
          vm.ApplyBatch({{.kind = BatchOperation::Kind::kZap,
                          .range = Frames(0, kPage)},
                         {.kind = BatchOperation::Kind::kMap,
                          .range = Frames(kPage, 4 * kPage),
                          .write = true}})
              .status();
      // The others may be in its way again and again.
      if (!batch.ok()) {
        EXPECT_EQ(ReasonOf(batch), ErrorReason::kOperationConflict) << batch;
      }
      batches += batch.ok() ? 1 : 0;
    }
  });
  // The guest has been through all of it some times, and audits are clean
  // meanwhile.
  const auto enough = static_cast<int64_t>(20 * all.size());
  const absl::Time end = absl::Now() + kPatience;
  while (vm.GetVcpu(0)->touched_frame_count < enough || batches < 5) {
    ExpectCleanAudit(vm, all);
    ASSERT_LT(absl::Now(), end) << "the guest does not get on";
  }
  done = true;
  zapper.join();
  limiter.join();
  ASSERT_OK(vm.Stop().status());
  ExpectBytesOfPasses(vm, 0, all);
  EXPECT_EQ(vm.Stats().leaf_4k_count, 0);
  ExpectCleanAudit(vm, all);
}

TEST_P(VmHugePageGuestTest, AVerdictOnAFrameGrantsItsPage) {
  Vm& vm = VmWithPages(3, {.fault_policy = FaultPolicy::kWait});
  // Begins and ends inside a page.
  const GfnRange touched = Frames(9, 2 * kPage + 5);
  Load(vm, touched, /*write=*/true);
  ASSERT_OK(vm.Start().status());
  int64_t seen = 0;
  for (const uint64_t gfn : {uint64_t{9}, kPage, 2 * kPage}) {
    WaitingAccess access = AwaitWaiting(vm, 0);
    while (access.access_id == seen) access = AwaitWaiting(vm, 0);
    EXPECT_EQ(access.gfn, Gfn(gfn));
    EXPECT_EQ(access.cause, WaitCause::kFaultPolicy);
    EXPECT_EQ(
        ReasonOf(
            vm.MapRange(Frames(gfn, gfn + 1), 0, true, Unhurried()).status()),
        ErrorReason::kGranuleUnsupported);
    ASSERT_OK(vm.ResolveAccess(access.access_id, Verdict::kGrant));
    seen = access.access_id;
  }
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 9 * kPageSize, touched.size(), '\x01');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VmHugePageGuestTest, AGrantLiftsTheLimitOfItsPageAlone) {
  Vm& vm = VmWithPages(3);
  ASSERT_OK(
      vm.ProtectRange(WholeRange(vm), {.read = true}, Unhurried()).status());
  Load(vm, Frames(kPage - 1, kPage + 1), /*write=*/true);
  ASSERT_OK(vm.Start().status());
  const WaitingAccess first = AwaitWaiting(vm, 0);
  EXPECT_EQ(first.gfn, Gfn(kPage - 1));
  EXPECT_EQ(first.cause, WaitCause::kProtection);
  ASSERT_OK(vm.ResolveAccess(first.access_id, Verdict::kGrant));
  WaitingAccess second = AwaitWaiting(vm, 0);
  while (second.access_id == first.access_id) second = AwaitWaiting(vm, 0);
  EXPECT_EQ(second.gfn, Gfn(kPage));
  // A client that lifts the limit lets it on as well.
  ASSERT_OK(vm.ProtectRange(Frames(kPage, 2 * kPage),
                            {.read = true, .write = true}, Unhurried())
                .status());
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, (kPage - 1) * kPageSize, 2, '\x01');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VmHugePageGuestTest, ADiscardedPageIsFreeAndComesBackAsZero) {
  Vm& vm = VmWithPages(4);
  Touch(vm, WholeRange(vm), /*write=*/true);
  const auto result = vm.DiscardRange(Frames(kPage, 3 * kPage), Unhurried());
  ASSERT_OK(result.status());
  EXPECT_EQ(result->freed_bytes, 2 * kPageBytes);
  EXPECT_EQ(pool.Free(), kPoolPages - 2);
  ExpectBytes(vm, 0, kPage, '\x01');
  ExpectBytes(vm, kPage * kPageSize, 2 * kPage, '\0');
  EXPECT_EQ(pool.Free(), kPoolPages - 2);
  ExpectCleanAudit(vm, WholeRange(vm));
  Touch(vm, Frames(kPage, kPage + 1), /*write=*/true);
  EXPECT_EQ(pool.Free(), kPoolPages - 3);
  ExpectBytes(vm, kPage * kPageSize, 1, '\x01');
  ExpectBytes(vm, (kPage + 1) * kPageSize, kPage - 1, '\0');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VmHugePageGuestTest, WithoutAFreePageTheAccessWaitsAndTheGuestLives) {
  Vm& vm = VmWithPages(2);
  ASSERT_OK(vm.DiscardRange(Frames(kPage, 2 * kPage), Unhurried()).status());
  ASSERT_TRUE(pool.Hold(pool.Free()));
  EXPECT_EQ(
      ReasonOf(
          vm.MapRange(Frames(kPage, 2 * kPage), 0, true, Unhurried()).status()),
      ErrorReason::kHostMemoryExhausted);
  Load(vm, WholeRange(vm), /*write=*/true);
  ASSERT_OK(vm.Start().status());
  const WaitingAccess access = AwaitWaiting(vm, 0);
  EXPECT_EQ(access.gfn, Gfn(kPage));
  EXPECT_EQ(access.cause, WaitCause::kHostFailed);
  EXPECT_NE(access.detail.find("nr_hugepages"), std::string::npos)
      << access.detail;
  EXPECT_EQ(vm.Describe().state, VmState::kRunning);
  pool.LetGo();
  ASSERT_OK(vm.ResolveAccess(access.access_id, Verdict::kRetry));
  AwaitState(vm, VmState::kStopped);
  ExpectBytes(vm, 0, 2 * kPage, '\x01');
  ExpectCleanAudit(vm, WholeRange(vm));
}

TEST_P(VmHugePageGuestTest,
       AGuestThatRunsIsPausedAndStoppedInTheMiddleOfAPage) {
  Vm& vm = VmWithPages(2, {.fault_policy = FaultPolicy::kWait});
  MapAll(vm, Frames(0, kPage), /*write=*/true);
  Load(vm, WholeRange(vm), /*write=*/true, /*passes=*/-1);
  ASSERT_OK(vm.Start().status());
  EXPECT_EQ(AwaitWaiting(vm, 0).gfn, Gfn(kPage));
  ASSERT_OK(vm.Pause().status());
  ASSERT_OK(vm.Resume().status());
  EXPECT_EQ(AwaitWaiting(vm, 0).gfn, Gfn(kPage));
  ASSERT_OK(vm.Stop().status());
  ExpectBytes(vm, kPage * kPageSize, kPage, '\0');
  ExpectCleanAudit(vm, WholeRange(vm));
}

INSTANTIATE_ON_EACH_HYPERVISOR(VmHugePageGuestTest);
INSTANTIATE_ON_EACH_HYPERVISOR(VmHugePageCopyTest);

}  // namespace
}  // namespace tdp
