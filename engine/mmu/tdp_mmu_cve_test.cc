// Classes of past vulnerabilities in hypervisors that this MMU could have too,
// each as a test that fails when the guard named in its comment is removed.
//
// Not here: CVE-2026-23401 (no MMIO entries), CVE-2024-40953 (no index shared
// between vCPUs), CVE-2025-21984 and its kin (UFFDIO_MOVE is not used),
// CVE-2024-36881 (write-protection left behind: memslot_host_test.cc,
// AnOldWriteProtectionDoesNotOutliveItsMapping), and what a guest may feed to a
// buffer other than the tables (its console: vcpu_set_test.cc).

#include <cerrno>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/testing/event.h"
#include "engine/testing/fake_vcpu.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

class TdpMmuCveTest : public TdpMmuTest {
 protected:
  static constexpr absl::Duration kMoment = absl::Milliseconds(50);

  static bool Never() { return false; }
  // Makes the next host call wait inside until `go_on`.
  void HoldNextHostCall(Event& inside, Event& go_on) {
    const int64_t number = host().call_count() + 1;
    host().set_hook([&inside, &go_on, number](const HostCall& call) {
      if (call.number == number) {
        inside.Set();
        EXPECT_TRUE(go_on.Wait());
      }
      return HostFailure{};
    });
  }
};

// CVE-2022-45869: a helper that needs the lock for writing ran under it for
// reading. Guards: MmuWriteGuard in InvalidateRoots() and in Batch::Freeze().
TEST_F(TdpMmuCveTest, Cve2022x45869WhatNeedsTheWriteLockWaitsForReaders) {
  AddSlot(0, 8);
  Start();
  ASSERT_TRUE(MapWritable(0, 8).status.ok());
  const MmuOperation zap = {.kind = MmuOperation::Kind::kZap,
                            .range = Frames(0, 1)};
  Event invalidated;
  Event applied;
  std::vector<std::thread> writers;
  {
    // As a thread that has found the valid root and is about to freeze.
    MmuReadGuard installing(TdpMmuPeer::Lock(mmu()));
    writers.emplace_back([&] {
      EXPECT_TRUE(mmu().InvalidateRoots().ok());
      invalidated.Set();
    });
    EXPECT_FALSE(invalidated.Wait(kMoment));
  }
  EXPECT_TRUE(invalidated.Wait());
  ASSERT_TRUE(mmu().ZapInvalidatedRoots().ok());
  ASSERT_TRUE(MapWritable(0, 8).status.ok());
  Event reading;
  Event go_on;
  std::thread reader([&] {
    MmuReadGuard installing(TdpMmuPeer::Lock(mmu()));
    reading.Set();
    EXPECT_TRUE(go_on.Wait());
  });
  ASSERT_TRUE(reading.Wait());
  writers.emplace_back([&] {
    EXPECT_TRUE(mmu().ApplyBatch(absl::MakeConstSpan(&zap, 1)).status.ok());
    applied.Set();
  });
  EXPECT_FALSE(applied.Wait(kMoment));
  go_on.Set();
  EXPECT_TRUE(applied.Wait());
  reader.join();
  for (std::thread& writer : writers) writer.join();
}

// CVE-2021-47639: an unmap skipped invalid roots, and a stale mapping was left
// when it returned. Guard: ChangeLeavesInAllRoots() changes kAll roots.
TEST_F(TdpMmuCveTest, Cve2021x47639AnUnmapReachesInvalidRoots) {
  FakeBacking& slot = AddSlot(0, 16);
  Start();
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(MapWritable(4 * i, 4 * i + 4).status.ok());
    ASSERT_TRUE(mmu().InvalidateRoots().ok());
  }
  ASSERT_TRUE(MapWritable(12, 16).status.ok());
  EXPECT_EQ(Zap(0, 16).changed_frames, 16);
  for (uint64_t gfn = 0; gfn < 16; ++gfn) {
    EXPECT_FALSE(slot.At(Gfn(gfn)).present) << gfn;
  }
  // The same for what only takes access away.
  ASSERT_TRUE(MapWritable(0, 16).status.ok());
  ASSERT_TRUE(mmu().InvalidateRoots().ok());
  ASSERT_TRUE(
      mmu().ProtectRange(Frames(0, 16), {.read = true}, Never).status.ok());
  EXPECT_FALSE(slot.Grants(Gfn(3), true));
}

// CVE-2021-47094: the iterator went on behind the entry at which it had
// yielded, and a zap-all skipped a sub-tree. Guard: FreezeLeafRun() yields with
// `next` at the entry it has not looked at.
TEST_F(TdpMmuCveTest, Cve2021x47094AYieldSkipsNothing) {
  constexpr uint64_t kBlocks = 10;
  AddSlot(0, kBlocks * kBlock);
  Start();
  ASSERT_TRUE(
      Map(0, kBlocks * kBlock, {.max_level = PageLevel::k4K}).status.ok());
  ASSERT_TRUE(Zap(0, kBlocks * kBlock).status.ok());
  // Among empty entries it yields after about 4096; and at the leaf that
  // happens to be there, whichever it is.
  const int64_t yields = mmu().Read(MmuCounter::kYields);
  for (uint64_t gfn = 4050; gfn < 4110; ++gfn) {
    ASSERT_TRUE(Map(gfn, gfn + 1).status.ok());
    ASSERT_EQ(Zap(0, kBlocks * kBlock).changed_frames, 1) << gfn;
  }
  EXPECT_GT(mmu().Read(MmuCounter::kYields), yields);
}

// CVE-2024-26990: what was dirty was told by a bit that is not kept there, so
// that writes were lost. Guard: WriteProtectVerb goes by W, which makes the
// next write fault, and not by D, which stays.
TEST_F(TdpMmuCveTest, Cve2024x26990EveryWriteAfterAWriteProtectIsNoticed) {
  FakeBacking& slot = AddSlot(0, 1);
  Start();
  ASSERT_TRUE(Map(0, 1).status.ok());
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(Fault(0, true), FaultResult::kWriteProtected);
    ASSERT_EQ(mmu()
                  .WriteProtectRange(Frames(0, 1), PageLevel::k4K, Never)
                  .changed_frames,
              1);
    EXPECT_TRUE(Entry(0).IsDirty());
    EXPECT_FALSE(slot.Grants(Gfn(0), true));
  }
  EXPECT_EQ(mmu()
                .WriteProtectRange(Frames(0, 1), PageLevel::k4K, Never)
                .changed_frames,
            0);
}

// CVE-2026-46113: where an entry is was computed instead of taken from the
// entry, and mappings of a deleted memslot were left. Guard: FreezeLeafRun()
// ends a run where its memslot ends.
TEST_F(TdpMmuCveTest, Cve2026x46113ADeletedMemslotLeavesNoLeafBehind) {
  FakeBacking& before = AddSlot(3, 100);
  FakeBacking& slot = AddSlot(103, kBlock + 100, PageLevel::k2M);
  FakeBacking& after = AddSlot(203 + kBlock, 2 * kBlock, PageLevel::k2M);
  Start();
  const uint64_t end = 203 + 3 * kBlock;
  ASSERT_TRUE(MapWritable(3, end).status.ok());
  slot.CloseForMap();
  ASSERT_TRUE(Zap(103, 203 + kBlock).status.ok());
  slot.CloseForUnmap();
  slot.set_gone(true);
  for (uint64_t gfn = 103; gfn < 203 + kBlock; ++gfn) {
    ASSERT_THAT(Entry(gfn), IsNonPresent()) << gfn;
    ASSERT_FALSE(slot.At(Gfn(gfn)).present) << gfn;
  }
  EXPECT_TRUE(before.Grants(Gfn(102), true));
  EXPECT_TRUE(after.Grants(Gfn(203 + kBlock), true));
  // A zap across the gap and both neighbours stays in each of them.
  ASSERT_TRUE(Zap(0, end).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k4K) + Leaves(PageLevel::k2M), 0);
  slot.set_gone(false);
  slot.ReopenForUnmap();
  slot.ReopenForMap();
  ASSERT_TRUE(MapWritable(3, end).status.ok());
  ASSERT_TRUE(Zap(0, end).status.ok());
  EXPECT_THAT(host().violations(), ::testing::IsEmpty());
}

// CVE-2021-22543: a frame was mapped of which no reference was held, and it was
// freed under the guest. Guard: MapRange() and HandleFault() hold their pin
// until the final values are written.
TEST_F(TdpMmuCveTest, Cve2021x22543AMemslotIsPinnedWhileItsFramesAreMapped) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  for (const bool fault : {false, true}) {
    Event inside;
    Event go_on;
    Event closed;
    HoldNextHostCall(inside, go_on);
    std::thread mapper([&] {
      if (fault) {
        EXPECT_EQ(Fault(9, true), FaultResult::kFixed);
      } else {
        EXPECT_TRUE(MapWritable(0, 8).status.ok());
      }
    });
    ASSERT_TRUE(inside.Wait());
    std::thread closer([&] {
      slot.CloseForMap();
      closed.Set();
    });
    EXPECT_FALSE(closed.Wait(kMoment));
    go_on.Set();
    EXPECT_TRUE(closed.Wait());
    mapper.join();
    closer.join();
    slot.ReopenForMap();
  }
}

// CVE-2024-46787: a table was looked at, it changed, and its place was used for
// a huge page. Guard: FreezeOverTable() takes a table with a FROZEN or present
// entry for one in use (IsEmptyTable(), and TryFreezeEmptyTable() again).
TEST_F(TdpMmuCveTest, Cve2024x46787AHugeLeafNeverReplacesATableInUse) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(Map(0, 1, {.max_level = PageLevel::k4K}).status.ok());
  ASSERT_TRUE(Zap(0, 1).status.ok());
  Event mapped;
  std::thread mapper;
  {
    TdpMmuPeer::Owner owner(mmu(), Gfn(kBlock - 1));
    mapper = std::thread([&] {
      EXPECT_TRUE(MapWritable(0, kBlock).status.ok());
      mapped.Set();
    });
    EXPECT_FALSE(mapped.Wait(kMoment)) << "it waits for the owner";
    EXPECT_EQ(Leaves(PageLevel::k2M), 0);
  }
  EXPECT_TRUE(mapped.Wait());
  mapper.join();
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kBlock));
  // And with a leaf in it.
  ASSERT_TRUE(Zap(1, kBlock).status.ok());
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 0);
}

// CVE-2021-46988: between two attempts the file system filled up, and the way
// out leaked. Guard: CommitMap() gives the entries of a failed call back their
// old values, and the cache its tables.
TEST_F(TdpMmuCveTest, Cve2021x46988AMemoryThatIsFullAtTheSecondAttempt) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  const uint64_t wakes = slot.WakeCount(Gfn(5));
  host().set_hook([&](const HostCall& call) {
    if (call.kind != HostCallKind::kMap) return HostFailure{};
    // The page is lost, and there is none to load it again.
    slot.FailContentOf(Gfn(5),
                       HostFrameError(WindowCall::kMap, Gfn(5), ENOSPC));
    return HostFailure{.error = EFAULT};
  });
  EXPECT_EQ(Fault(5, true), FaultResult::kFailed);
  EXPECT_THAT(Entry(5), IsNonPresent());
  EXPECT_GT(slot.WakeCount(Gfn(5)), wakes) << "who met the owner looks again";
  EXPECT_EQ(TdpMmuPeer::Pool(mmu()).used_count(),
            mmu().Read(MmuCounter::kLinkedTables));
  host().ClearHook();
  EXPECT_EQ(Fault(5, true), FaultResult::kFailed);
  slot.ClearContentFailure();
  EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
}

// CVE-2026-45782: something was freed that an asynchronous reader still used.
// Guard: UnlinkNextTable() retires a table, after it has frozen its entries.
TEST_F(TdpMmuCveTest, Cve2026x45782ATableOutlivesWhoeverIsInIt) {
  AddSlot(0, 64 * kBlock);
  Start();
  ASSERT_TRUE(Map(3, 4).status.ok());
  // What is freed is handed out again at once.
  ExpectTableFrozenBy(3, [&] {
    ZapAll();
    ASSERT_TRUE(Map(0, 64 * kBlock, {.max_level = PageLevel::k4K}).status.ok());
  });
}

// firecracker#2177: a buffer that the guest fills had no bound. Guard: the
// pool's limit.
TEST_F(TdpMmuCveTest, Firecracker2177AGuestCannotMakeTheTablesGrowForEver) {
  constexpr int64_t kTables = 32;
  constexpr uint64_t kFrames = 64 * kBlock;
  AddSlot(0, kFrames);
  Start(PageLevel::k512G, kTables * static_cast<int64_t>(kPageSize));
  FakeVcpu vcpu(mmu(), backings_);
  int64_t failed = 0;
  for (uint64_t gfn = 0; gfn < kFrames; gfn += kBlock) {
    const TouchResult result = vcpu.Touch(Gfn(gfn), true);
    ASSERT_TRUE(result == TouchResult::kDone || result == TouchResult::kFailed);
    failed += result == TouchResult::kFailed ? 1 : 0;
    ASSERT_LE(mmu().page_table_bytes(),
              (kTables + 1) * static_cast<int64_t>(kPageSize));
  }
  EXPECT_GT(failed, 0);
  ZapAll();
  EXPECT_EQ(vcpu.Touch(Gfn(kFrames - 1), true), TouchResult::kDone)
      << "it can be made to work again";
}

}  // namespace
}  // namespace tdp::testing
