// Memslots whose host pages are of 2M: each leaf is one, and what cuts one is
// refused before anything changes.

#include <cerrno>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/mmu/host_pages.h"
#include "engine/testing/fake_vcpu.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

bool Never() { return false; }

class HostPageTest : public TdpMmuTest {
 protected:
  // Frames [first, first + count) * 512, in host pages of 2M.
  FakeBacking& AddPages(uint64_t first, uint64_t count, bool writable = true) {
    return backings_.Add({.range = Pages(first, count),
                          .writable = writable,
                          .host_page_level = PageLevel::k2M});
  }
  static GfnRange Pages(uint64_t first, uint64_t count = 1) {
    return Frames(first * kBlock, (first + count) * kBlock);
  }
  // What the host maps for every frame of the range.
  static void ExpectHost(const FakeBacking& slot, GfnRange range, bool present,
                         bool writable) {
    for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
      ASSERT_EQ(slot.At(gfn).present, present) << gfn.value();
      ASSERT_EQ(slot.At(gfn).writable, writable) << gfn.value();
    }
  }
  void ExpectLeaves(int64_t small, int64_t large) {
    EXPECT_EQ(Leaves(PageLevel::k4K), small);
    EXPECT_EQ(Leaves(PageLevel::k2M), large);
    EXPECT_EQ(Leaves(PageLevel::k1G), 0);
  }
  MmuProgress Protect(GfnRange range, Access limit) {
    return mmu().ProtectRange(range, limit, Never);
  }
  static void Track(FakeBacking& slot) { slot.set_tracks_writes(true); }
};

constexpr Access kNone = {};
constexpr Access kRead = {.read = true};
constexpr Access kAll = {.read = true, .write = true};

TEST_F(HostPageTest, AFaultInstallsItsPage) {
  FakeBacking& slot = AddPages(1, 3);
  Start();
  EXPECT_EQ(Fault(kBlock + 17, /*write=*/false), FaultResult::kFixed);
  ExpectLeaves(0, 1);
  ExpectHost(slot, Pages(1), true, true);
  ExpectHost(slot, Pages(2, 2), false, false);
  EXPECT_EQ(Fault(4 * kBlock - 1, /*write=*/true), FaultResult::kFixed);
  ExpectLeaves(0, 2);
  EXPECT_EQ(Fault(4 * kBlock, true), FaultResult::kUnbacked);
}

TEST_F(HostPageTest, ASpuriousFaultRenewsItsPage) {
  FakeBacking& slot = AddPages(0, 2);
  Start();
  EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
  slot.SetHost(Pages(0), {});
  EXPECT_EQ(Fault(300, true), FaultResult::kSpurious);
  ExpectHost(slot, Pages(0), true, true);
}

TEST_F(HostPageTest, AWriteIsGrantedToItsPageAndNotedForAllOfIt) {
  FakeBacking& slot = AddPages(0, 2);
  Start();
  Track(slot);
  EXPECT_EQ(Fault(7, /*write=*/false), FaultResult::kFixed);
  ExpectHost(slot, Pages(0), true, false);
  EXPECT_THAT(slot.TakeWritten(), IsEmpty());
  EXPECT_EQ(Fault(8, /*write=*/true), FaultResult::kWriteProtected);
  ExpectHost(slot, Pages(0), true, true);
  EXPECT_EQ(slot.TakeWritten().size(), kBlock);
  // Not mapped before.
  EXPECT_EQ(Fault(kBlock + 1, /*write=*/true), FaultResult::kFixed);
  const std::vector<Gfn> written = slot.TakeWritten();
  ASSERT_EQ(written.size(), kBlock);
  EXPECT_EQ(written.front(), Gfn(kBlock));
  ExpectLeaves(0, 2);
  EXPECT_EQ(mmu().Read(MmuCounter::kSplits), 0);
}

TEST_F(HostPageTest, ClearingOneFrameTakesWritingFromItsPage) {
  FakeBacking& slot = AddPages(0, 3);
  Start();
  Track(slot);
  for (uint64_t page = 0; page < 3; ++page) Fault(page * kBlock, true);
  (void)slot.TakeWritten();
  // Frame 512 + 64 + 3.
  const std::vector<uint64_t> bits = {0, 1 << 3};
  const MmuProgress progress =
      mmu().WriteProtectFrames(Gfn(kBlock), bits, Never);
  EXPECT_TRUE(progress.status.ok());
  ExpectHost(slot, Pages(0), true, true);
  ExpectHost(slot, Pages(1), true, false);
  ExpectHost(slot, Pages(2), true, true);
  EXPECT_EQ(Fault(2 * kBlock - 1, true), FaultResult::kWriteProtected);
  EXPECT_EQ(slot.TakeWritten().size(), kBlock);
}

TEST_F(HostPageTest, EveryVerbRefusesWhatCutsAPageAndChangesNothing) {
  FakeBacking& small = AddSlot(0, kBlock);
  FakeBacking& slot = AddPages(1, 2);
  Start();
  ASSERT_TRUE(MapWritable(0, 3 * kBlock).status.ok());
  const int64_t calls = host().call_count();
  for (const GfnRange range :
       {Frames(3, kBlock + 1), Frames(kBlock + 1, 2 * kBlock),
        Frames(kBlock + 4, kBlock + 5), Frames(kBlock, 3 * kBlock - 1)}) {
    const MmuOperation zap = {.range = range};
    const MmuOperation limit = {
        .kind = MmuOperation::Kind::kProtect, .range = range, .access = kRead};
    const MmuOperation map = {.kind = MmuOperation::Kind::kMap, .range = range};
    const MmuOperation protect = {.kind = MmuOperation::Kind::kWriteProtect,
                                  .range = range};
    // Welcome by itself.
    const MmuOperation other = {.range = Frames(0, 2)};
    const auto young = [](GfnRange) { ADD_FAILURE(); };
    const std::vector<absl::Status> refused = {
        Map(range.start.value(), range.end.value()).status,
        Zap(range.start.value(), range.end.value()).status,
        Protect(range, kRead).status,
        mmu().WriteProtectRange(range, PageLevel::k4K, Never).status,
        mmu().AgeRange(range, /*test_only=*/false, Never, young).status,
        mmu().AgeRange(range, /*test_only=*/true, Never, young).status,
        mmu().ApplyBatch({other, zap}).status,
        mmu().ApplyBatch({other, limit}).status,
        mmu().ApplyBatch({other, map}).status,
        mmu().ApplyBatch({other, protect}).status,
    };
    for (size_t i = 0; i < refused.size(); ++i) {
      EXPECT_EQ(ReasonOf(refused[i]), ErrorReason::kGranuleUnsupported) << i;
    }
  }
  EXPECT_EQ(host().call_count(), calls);
  EXPECT_EQ(mmu().LimitOf(Gfn(3)), kAll);
  ExpectHost(small, Pages(0), true, true);
  ExpectHost(slot, Pages(1, 2), true, true);
}

TEST_F(HostPageTest, TheErrorNamesTheRangeAndThePage) {
  AddPages(1, 2);
  Start();
  const absl::Status status = Zap(kBlock + 1, 2 * kBlock).status;
  EXPECT_EQ(status.message(),
            "range [0x201, 0x400) cuts the 2M host page at frame 0x200; in the "
            "memslot that holds it, begin and end at multiples of 512 frames");
}

TEST_F(HostPageTest, LeavesOf4KAreRefused) {
  AddPages(0, 2);
  Start();
  const std::vector<absl::Status> refused = {
      Map(0, kBlock, {.max_level = PageLevel::k4K}).status,
      mmu().SplitHugePages(Pages(0), PageLevel::k4K, Never).status,
      mmu()
          .ApplyBatch({{.kind = MmuOperation::Kind::kMap,
                        .range = Pages(0),
                        .max_level = PageLevel::k4K}})
          .status,
  };
  for (const absl::Status& status : refused) {
    EXPECT_EQ(ReasonOf(status), ErrorReason::kGranuleUnsupported) << status;
  }
  EXPECT_TRUE(
      mmu().SplitHugePages(Pages(0, 2), PageLevel::k2M, Never).status.ok());
  ExpectLeaves(0, 0);
}

TEST_F(HostPageTest, ARangeOverSeveralMemslotsIsServed) {
  FakeBacking& low = AddSlot(0, kBlock);
  FakeBacking& slot = AddPages(1, 2);
  FakeBacking& high = AddSlot(3 * kBlock, 10);
  Start();
  const GfnRange all = Frames(kBlock - 3, 3 * kBlock + 4);
  EXPECT_EQ(MapWritable(all.start.value(), all.end.value()).changed_frames,
            static_cast<int64_t>(all.size()));
  ExpectLeaves(7, 2);
  EXPECT_TRUE(Protect(all, kRead).status.ok());
  ExpectHost(low, Frames(kBlock - 3, kBlock), true, false);
  ExpectHost(slot, Pages(1, 2), true, false);
  ExpectHost(high, Frames(3 * kBlock, 3 * kBlock + 4), true, false);
  EXPECT_TRUE(Protect(all, kAll).status.ok());
  int64_t young = 0;
  EXPECT_TRUE(mmu()
                  .AgeRange(all, /*test_only=*/false, Never,
                            [&](GfnRange range) {
                              young += static_cast<int64_t>(range.size());
                            })
                  .status.ok());
  EXPECT_EQ(young, static_cast<int64_t>(all.size()));
  ExpectHost(slot, Pages(1, 2), false, false);
  EXPECT_TRUE(mmu().ApplyBatch({{.range = all}}).status.ok());
  ExpectLeaves(0, 0);
}

TEST_F(HostPageTest, ABatchMapsPagesWhole) {
  FakeBacking& slot = AddPages(0, 4);
  Start();
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  const BatchOutcome outcome = mmu().ApplyBatch(
      {{.range = Pages(0)},
       {.kind = MmuOperation::Kind::kMap, .range = Pages(1, 2), .write = true},
       {.kind = MmuOperation::Kind::kProtect,
        .range = Pages(3),
        .access = kNone}});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.changed_entries, 3);
  ExpectLeaves(0, 2);
  ExpectHost(slot, Pages(0), false, false);
  ExpectHost(slot, Pages(1, 2), true, true);
  EXPECT_EQ(Fault(3 * kBlock, false), FaultResult::kForbidden);
}

TEST_F(HostPageTest, ABatchThatFailsLeavesTheOldAccess) {
  FakeBacking& slot = AddPages(0, 3);
  Start();
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  const std::vector<MmuOperation> operations = {
      {.kind = MmuOperation::Kind::kProtect,
       .range = Pages(0),
       .access = kRead},
      {.kind = MmuOperation::Kind::kMap, .range = Pages(1, 2), .write = true}};
  // One of the two pages is mapped, and then the host has no memory.
  host().FailNth(2, {.error = ENOMEM, .applied_frames = kBlock});
  const BatchOutcome outcome = mmu().ApplyBatch(operations);
  EXPECT_EQ(ReasonOf(outcome.status), ErrorReason::kHostMemoryExhausted);
  host().ClearHook();
  ExpectLeaves(0, 1);
  ExpectHost(slot, Pages(1, 2), false, false);
  EXPECT_EQ(Fault(0, true), FaultResult::kSpurious);
  ASSERT_TRUE(mmu().ApplyBatch(operations).status.ok());
  ExpectLeaves(0, 3);
}

TEST_F(HostPageTest, ALimitThatFailsHalfWayIsTakenBackByPages) {
  FakeBacking& slot = AddPages(0, 4);
  Start();
  ASSERT_TRUE(MapWritable(0, 4 * kBlock).status.ok());
  host().FailNth(1, {.error = ENOMEM, .applied_frames = 2 * kBlock});
  const MmuProgress progress = Protect(Pages(0, 4), kRead);
  EXPECT_FALSE(progress.status.ok());
  EXPECT_TRUE(IsAligned(progress.next_gfn.value(), PageLevel::k2M));
  host().ClearHook();
  for (uint64_t page = 0; page < 4; ++page) {
    const Access limit = mmu().LimitOf(Gfn(page * kBlock));
    EXPECT_EQ(mmu().LimitOf(Gfn(page * kBlock + kBlock - 1)), limit) << page;
    const FaultResult result = Fault(page * kBlock + 9, true);
    EXPECT_EQ(result == FaultResult::kForbidden, limit == kRead) << page;
  }
  ExpectLeaves(0, 4);
  (void)slot;
}

TEST_F(HostPageTest, AHostWithoutMemoryFailsTheFaultAndNothingIsMapped) {
  FakeBacking& slot = AddPages(0, 1);
  Start();
  host().FailNth(1, {.error = ENOMEM});
  EXPECT_EQ(Fault(9, true), FaultResult::kFailed);
  host().ClearHook();
  ExpectLeaves(0, 0);
  ExpectHost(slot, Pages(0), false, false);
  EXPECT_EQ(Fault(9, true), FaultResult::kFixed);
}

TEST_F(HostPageTest, APageThatLostItsContentIsLoadedAgain) {
  FakeBacking& slot = AddPages(0, 1);
  Start();
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  slot.SetHost(Pages(0), {});
  slot.DiscardContent(Pages(0));
  EXPECT_EQ(Fault(9, true), FaultResult::kSpurious);
  ExpectHost(slot, Pages(0), true, true);
}

TEST_F(HostPageTest, ContentThatCannotBeLoadedFailsTheFault) {
  FakeBacking& slot = AddPages(0, 1);
  Start();
  const absl::Status lost =
      MakeError(ErrorReason::kSourceFailed, "the disk is gone");
  slot.FailContentOf(Gfn(400), lost);
  EXPECT_EQ(Fault(9, true), FaultResult::kFailed);
  ExpectLeaves(0, 0);
  slot.ClearContentFailure();
  EXPECT_EQ(Fault(9, true), FaultResult::kFixed);
}

TEST_F(HostPageTest, AFailedProtectTakesThePageAway) {
  FakeBacking& slot = AddPages(0, 1);
  Start();
  ASSERT_TRUE(Map(0, kBlock).status.ok());
  host().FailNth(1, {.error = ENOMEM, .applied_frames = 100});
  EXPECT_EQ(Fault(9, true), FaultResult::kFixed) << "mapped anew";
  host().ClearHook();
  ExpectHost(slot, Pages(0), true, true);
}

// Each host call of a sequence of verbs fails in turn, after some of it was
// done.
TEST_F(HostPageTest, WhicheverHostCallFailsTheHostMapsNoMoreThanTheEntriesSay) {
  FakeBacking& slot = AddPages(0, 4);
  Start();
  AllowStricterHost();
  for (const int error : {ENOMEM, EFAULT}) {
    for (const uint64_t applied : {uint64_t{0}, uint64_t{1}, kBlock}) {
      bool failed = true;
      for (int64_t n = 1; failed; ++n) {
        const int64_t last = host().call_count() + n;
        host().FailNth(n, {.error = error, .applied_frames = applied});
        const auto check = [&] {
          ExpectConsistent(HostMustBe::kEqualOrStricter);
          EXPECT_EQ(Leaves(PageLevel::k4K), 0);
        };
        (void)MapWritable(0, 2 * kBlock);
        check();
        Track(slot);
        (void)mmu().WriteProtectRange(Pages(0, 4), PageLevel::k4K, Never);
        check();
        for (uint64_t page = 0; page < 4; ++page) {
          (void)Fault(page * kBlock + 3, /*write=*/page % 2 == 0);
          check();
        }
        (void)Protect(Pages(1, 3), kRead);
        check();
        (void)mmu().AgeRange(Pages(0, 2), /*test_only=*/false, Never,
                             [](GfnRange) {});
        check();
        (void)Fault(0, /*write=*/true);
        (void)mmu().ApplyBatch(
            {{.range = Pages(0)},
             {.kind = MmuOperation::Kind::kMap, .range = Pages(2, 2)}});
        check();
        slot.set_tracks_writes(false);
        (void)mmu().GrantWrites(Pages(0, 4), Never);
        check();
        (void)Zap(0, 4 * kBlock);
        check();
        failed = host().call_count() >= last;
        host().ClearHook();
        ASSERT_TRUE(Protect(Pages(0, 4), kAll).status.ok());
        ASSERT_TRUE(Zap(0, 4 * kBlock).status.ok());
      }
    }
  }
}

TEST_F(HostPageTest, NothingIsCollapsedTo1G) {
  constexpr uint64_t kPages = FramesPerEntry(PageLevel::k1G) / kBlock;
  AddPages(kPages, kPages);
  Start();
  const GfnRange all = Pages(kPages, kPages);
  ASSERT_TRUE(MapWritable(all.start.value(), all.end.value()).status.ok());
  const MmuProgress progress =
      mmu().CollapseHugePages(all, PageLevel::k1G, Never);
  EXPECT_TRUE(progress.status.ok());
  EXPECT_EQ(progress.changed_entries, 0);
  ExpectLeaves(0, kPages);
}

TEST_F(HostPageTest, LeafTablesAreUnlinkedInEveryRoot) {
  FakeBacking& slot = AddSlot(0, 4 * kBlock);
  Start();
  ASSERT_TRUE(Map(0, 4 * kBlock, {.max_level = PageLevel::k4K}).status.ok());
  ASSERT_TRUE(mmu().InvalidateRoots().ok());
  ASSERT_TRUE(Zap(0, 4 * kBlock).status.ok());
  ASSERT_TRUE(Map(0, 2 * kBlock, {.max_level = PageLevel::k4K}).status.ok());
  ASSERT_TRUE(Zap(0, 2 * kBlock).status.ok());
  const int64_t tables = mmu().Read(MmuCounter::kLinkedTables);
  mmu().UnlinkLeafTables(Frames(kBlock, 4 * kBlock));
  EXPECT_EQ(mmu().Read(MmuCounter::kLinkedTables), tables - 3 - 1);
  mmu().UnlinkLeafTables(Frames(kBlock, 4 * kBlock));
  EXPECT_EQ(mmu().Read(MmuCounter::kLinkedTables), tables - 3 - 1);
  ASSERT_TRUE(mmu().ZapInvalidatedRoots().ok());
  // What comes there afterwards is found.
  EXPECT_EQ(Fault(kBlock + 3, true), FaultResult::kFixed);
  EXPECT_EQ(Last(kBlock + 3).level, PageLevel::k4K);
  EXPECT_TRUE(slot.Grants(Gfn(kBlock + 3), true));
}

TEST_F(HostPageTest, WhoIsLateInAnUnlinkedTableFindsItFrozen) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(Map(0, kBlock, {.max_level = PageLevel::k4K}).status.ok());
  ASSERT_TRUE(Zap(0, kBlock).status.ok());
  ExpectTableFrozenBy(7, [&] { mmu().UnlinkLeafTables(Pages(0)); });
}

TEST_F(HostPageTest, UnlinkingRacesTheZapOfAnInvalidatedRoot) {
  AddSlot(0, 8 * kBlock);
  Start();
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(Map(0, 8 * kBlock, {.max_level = PageLevel::k4K}).status.ok());
    ASSERT_TRUE(mmu().InvalidateRoots().ok());
    ASSERT_TRUE(Zap(0, 8 * kBlock).status.ok());
    std::thread zapper([&] {
      const absl::Status zapped = mmu().ZapInvalidatedRoots();
      EXPECT_TRUE(zapped.ok()) << zapped;
    });
    mmu().UnlinkLeafTables(Pages(0, 8));
    zapper.join();
    EXPECT_EQ(mmu().invalid_root_count(), 0u);
  }
}

// vCPUs touch while every verb takes pages away and brings them back.
TEST_F(HostPageTest, VcpusGetOnWhileEveryVerbIsAtWork) {
  FakeBacking& slot = AddPages(0, 4);
  Start();
  SlowHost();
  AllowStricterHost();
  std::atomic<bool> done{false};
  std::vector<std::thread> verbs;
  verbs.emplace_back([&] {
    for (uint64_t i = 0; !done; ++i) {
      EXPECT_TRUE(Zap(i % 4 * kBlock, (i % 4 + 1) * kBlock).status.ok());
      if (i % 16 == 0) {
        EXPECT_TRUE(mmu().InvalidateRoots().ok());
        EXPECT_TRUE(mmu().ZapInvalidatedRoots().ok());
      }
    }
  });
  verbs.emplace_back([&] {
    while (!done) {
      EXPECT_TRUE(MapWritable(0, 4 * kBlock).status.ok());
      const MmuProgress aged = mmu().AgeRange(Pages(0, 4), /*test_only=*/false,
                                              Never, [](GfnRange) {});
      EXPECT_TRUE(aged.status.ok());
      EXPECT_TRUE(mmu()
                      .WriteProtectRange(Pages(1, 2), PageLevel::k4K, Never)
                      .status.ok());
      EXPECT_TRUE(mmu()
                      .CollapseHugePages(Pages(0, 4), PageLevel::k1G, Never)
                      .status.ok());
    }
  });
  verbs.emplace_back([&] {
    for (int i = 0; !done; ++i) {
      slot.set_tracks_writes(i % 2 == 0);
      const absl::Status status =
          mmu()
              .ApplyBatch(
                  {{.range = Pages(0)},
                   {.kind = MmuOperation::Kind::kMap, .range = Pages(2, 2)}})
              .status;
      if (!status.ok()) {
        EXPECT_EQ(ReasonOf(status), ErrorReason::kOperationConflict) << status;
      }
    }
  });
  std::vector<std::thread> vcpus;
  for (uint64_t id = 0; id < 2; ++id) {
    vcpus.emplace_back([&, id] {
      FakeVcpu vcpu(mmu(), backings_);
      for (uint64_t i = 0; i < 2000; ++i) {
        ASSERT_EQ(vcpu.Touch(Gfn((i * 61 + id * 7) % (4 * kBlock)), i % 3 != 0),
                  TouchResult::kDone);
      }
    });
  }
  for (std::thread& vcpu : vcpus) vcpu.join();
  done = true;
  for (std::thread& verb : verbs) verb.join();
  slot.set_tracks_writes(false);
  EXPECT_EQ(Leaves(PageLevel::k4K), 0);
}

}  // namespace
}  // namespace tdp::testing
