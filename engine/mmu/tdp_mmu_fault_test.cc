#include <cerrno>
#include <functional>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/testing/event.h"
#include "engine/testing/fake_vcpu.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

using HandleFaultTest = TdpMmuTest;

TEST_F(HandleFaultTest, InstallsOneFrameAndWakesTheVcpu) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  EXPECT_EQ(Fault(5, false), FaultResult::kFixed);
  EXPECT_THAT(Entry(5), IsWritableLeaf()) << "writable at once, as KVM does";
  EXPECT_EQ(Leaves(PageLevel::k4K), 1);
  EXPECT_EQ(slot.WakeCount(Gfn(5)), 1u);
  EXPECT_EQ(slot.WakeCount(Gfn(6)), 0u);
  EXPECT_EQ(mmu().Read(MmuCounter::kFaultFixed), 1);
}

TEST_F(HandleFaultTest, AMappedFrameIsSpuriousAndRenewed) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_EQ(Fault(5, true), FaultResult::kFixed);
  slot.SetHost(Frames(5, 6), {});
  EXPECT_EQ(Fault(5, true), FaultResult::kSpurious);
  EXPECT_TRUE(slot.Grants(Gfn(5), true));
  EXPECT_EQ(Fault(5, false), FaultResult::kSpurious);
  EXPECT_EQ(slot.WakeCount(Gfn(5)), 3u);
  EXPECT_EQ(mmu().Read(MmuCounter::kFaultSpurious), 2);
}

TEST_F(HandleFaultTest, AWriteToAReadOnlyMappingIsGranted) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Map(0, 64).status.ok());
  EXPECT_EQ(Fault(5, true), FaultResult::kWriteProtected);
  EXPECT_THAT(Entry(5), IsWritableLeaf());
  EXPECT_THAT(Entry(6), IsReadOnlyLeaf());
  EXPECT_TRUE(slot.Grants(Gfn(5), true));
  EXPECT_FALSE(slot.Grants(Gfn(6), true));
  EXPECT_EQ(mmu().Read(MmuCounter::kFaultWriteProtected), 1);
}

TEST_F(HandleFaultTest, AWriteToAReadOnlyMemslotIsForbidden) {
  AddSlot(0, 64, PageLevel::k4K, /*writable=*/false);
  Start();
  EXPECT_EQ(Fault(5, true), FaultResult::kForbidden);
  EXPECT_THAT(Entry(5), IsNonPresent());
  EXPECT_EQ(Fault(5, false), FaultResult::kFixed);
  EXPECT_THAT(Entry(5), IsReadOnlyLeaf());
  EXPECT_EQ(Fault(5, true), FaultResult::kForbidden);
}

TEST_F(HandleFaultTest, UnbackedAndChangingMemslotsAreToldApart) {
  FakeBacking& slot = AddSlot(10, 10);
  Start();
  EXPECT_EQ(Fault(9, false), FaultResult::kUnbacked);
  EXPECT_EQ(Fault(20, false), FaultResult::kUnbacked);
  EXPECT_EQ(Fault(10, false), FaultResult::kFixed);
  EXPECT_EQ(Fault(19, false), FaultResult::kFixed);
  slot.CloseForMap();
  EXPECT_EQ(Fault(11, false), FaultResult::kChanging);
  slot.ReopenForMap();
  EXPECT_EQ(host().call_count(), 2);
}

TEST_F(HandleFaultTest, TheFirstAndTheLastFrameOfAFiveLevelRootCanFault) {
  const uint64_t end = FramesOfRoot(PageLevel::k256T);
  AddSlot(0, 1);
  AddSlot(end - 1, 1);
  Start(PageLevel::k256T);
  EXPECT_EQ(Fault(0, true), FaultResult::kFixed);
  EXPECT_EQ(Fault(end - 1, true), FaultResult::kFixed);
  EXPECT_EQ(mmu().WalkGfn(Gfn(end - 1)).size(), 5u);
}

TEST_F(HandleFaultTest, AHugeLeafIsInstalledWhereTheWholeBlockIsBacked) {
  AddSlot(100, 3 * kBlock, PageLevel::k2M);
  Start();
  EXPECT_EQ(Fault(kBlock + 3, false), FaultResult::kFixed);
  EXPECT_EQ(Leaves(PageLevel::k2M), 1);
  EXPECT_EQ(Fault(101, false), FaultResult::kFixed);
  EXPECT_EQ(Fault(3 * kBlock + 1, false), FaultResult::kFixed);
  EXPECT_EQ(Leaves(PageLevel::k4K), 2) << "blocks that stick out stay small";
}

TEST_F(HandleFaultTest, ATableInUseKeepsTheFaultSmall) {
  AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(Map(9, 10).status.ok());
  EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
  EXPECT_EQ(Leaves(PageLevel::k2M), 0);
  EXPECT_EQ(Leaves(PageLevel::k4K), 2);
}

TEST_F(HandleFaultTest, AnEmptyTableGivesWayToAHugeLeaf) {
  AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(Map(9, 10).status.ok());
  ASSERT_TRUE(Zap(9, 10).status.ok());
  EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
  EXPECT_EQ(Leaves(PageLevel::k2M), 1);
}

TEST_F(HandleFaultTest, ANeighbourWithoutContentDoesNotFailTheFrame) {
  FakeBacking& slot = AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  slot.FailContentOf(Gfn(6), MakeError(ErrorReason::kSourceFailed, "bad"));
  EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
  EXPECT_EQ(Leaves(PageLevel::k4K), 1);
  const FaultOutcome bad = mmu().HandleFault({Gfn(6), true});
  EXPECT_EQ(bad.result, FaultResult::kFailed);
  EXPECT_EQ(DetailOf(bad.status)->reason, ErrorReason::kSourceFailed);
  EXPECT_THAT(Entry(6), IsNonPresent());
}

TEST_F(HandleFaultTest, ContentThatIsLostOnTheWayIsLoadedAgain) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  host().set_hook([&](const HostCall& call) {
    if (call.number <= 3) slot.DiscardContent(call.run);
    return HostFailure{};
  });
  EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
}

TEST_F(HandleFaultTest, ContentThatIsLostForEverFailsAndEnds) {
  FakeBacking& slot = AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  AllowStricterHost();
  const auto lose = [&](const HostCall& call) {
    slot.DiscardContent(call.run);
    return HostFailure{};
  };
  host().set_hook(lose);
  EXPECT_EQ(Fault(5, true), FaultResult::kFailed);
  EXPECT_THAT(Entry(5), IsNonPresent());
  host().ClearHook();
  ASSERT_EQ(Fault(5, true), FaultResult::kFixed);
  slot.SetHost(Frames(5, 6), {});
  host().set_hook(lose);
  EXPECT_EQ(Fault(5, true), FaultResult::kFailed) << "a mapped frame too";
  host().ClearHook();
  EXPECT_EQ(Fault(5, true), FaultResult::kSpurious);
}

TEST_F(HandleFaultTest, AHugeMapThatFailsIsTriedSmall) {
  AddSlot(0, kBlock, PageLevel::k2M);
  Start();
  host().FailNth(
      1, {.error = ENOMEM, .applied_frames = 17, .reported_frames = 17});
  EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
  EXPECT_EQ(Leaves(PageLevel::k2M), 0);
  EXPECT_EQ(Leaves(PageLevel::k4K), 1);
}

TEST_F(HandleFaultTest, AFailedGrantTakesTheFrameAwayAndMapsItAnew) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Map(0, 64).status.ok());
  host().FailNth(1, {.error = EAGAIN});
  EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
  EXPECT_TRUE(slot.Grants(Gfn(5), true));
}

TEST_F(HandleFaultTest, AFaultFromBeforeAZapInstallsNothingAndLooksAgain) {
  FakeBacking& slot = AddSlot(0, 1024);
  Start();
  ASSERT_TRUE(MapWritable(0, 2).status.ok());
  const ChangeSequence::Snapshot before = mmu().ReadSequence(Gfn(5));
  ASSERT_TRUE(Zap(4, 6).status.ok());
  const PageFault stale = {.gfn = Gfn(5), .sequence = before};
  EXPECT_EQ(mmu().HandleFault(stale).result, FaultResult::kRetry);
  EXPECT_THAT(Entry(5), IsNonPresent());
  EXPECT_EQ(slot.WakeCount(Gfn(5)), 1u);
  EXPECT_EQ(mmu().Read(MmuCounter::kFaultRetry), 1);

  const ChangeSequence::Snapshot now = mmu().ReadSequence(Gfn(5));
  ASSERT_TRUE(Zap(600, 700).status.ok());
  const PageFault fresh = {.gfn = Gfn(5), .sequence = now};
  EXPECT_EQ(mmu().HandleFault(fresh).result, FaultResult::kFixed)
      << "a zap elsewhere is no reason to retry";
}

TEST_F(HandleFaultTest, AFaultFromBeforeAZapAllLeavesNoTableInTheNewRoot) {
  AddSlot(0, 64);
  Start();
  const ChangeSequence::Snapshot before = mmu().ReadSequence(Gfn(5));
  ZapAll();
  const PageFault stale = {.gfn = Gfn(5), .sequence = before};
  EXPECT_EQ(mmu().HandleFault(stale).result, FaultResult::kRetry);
  EXPECT_EQ(mmu().Read(MmuCounter::kLinkedTables), 1);
}

class FaultAroundTest : public TdpMmuTest {
 protected:
  // Frames [0, 48) have content but for frame 20; a leaf table is linked.
  void SetUp() override {
    slot_ = &backings_.Add({.range = Frames(0, kBlock), .fault_around = 16});
    Start();
    ASSERT_TRUE(slot_->LoadContent(Frames(0, 20)).ok());
    ASSERT_TRUE(slot_->LoadContent(Frames(21, 48)).ok());
    ASSERT_EQ(Fault(60, false), FaultResult::kFixed);
  }
  std::vector<uint64_t> Mapped() {
    std::vector<uint64_t> mapped;
    for (uint64_t gfn = 0; gfn < 48; ++gfn) {
      if (Entry(gfn).IsPresent()) mapped.push_back(gfn);
    }
    return mapped;
  }
  FakeBacking* slot_ = nullptr;
};

TEST_F(FaultAroundTest, MapsWhatIsReadyInOneHostCall) {
  const int64_t calls = mmu().Read(MmuCounter::kHostCalls);
  EXPECT_EQ(Fault(18, true), FaultResult::kFixed);
  EXPECT_THAT(Mapped(), ::testing::ElementsAre(16, 17, 18, 19));
  EXPECT_EQ(mmu().Read(MmuCounter::kHostCalls), calls + 1);
  EXPECT_TRUE(slot_->Grants(Gfn(16), true));
  EXPECT_EQ(Fault(22, true), FaultResult::kFixed);
  EXPECT_TRUE(Entry(31).IsPresent());
  EXPECT_FALSE(Entry(20).IsPresent()) << "its bytes are not at hand";
  EXPECT_FALSE(Entry(32).IsPresent());
}

TEST_F(FaultAroundTest, StopsAtWhatIsMappedAndAtLimits) {
  ASSERT_TRUE(MapWritable(2, 3).status.ok());
  ASSERT_TRUE(MapWritable(9, 10).status.ok());
  ASSERT_TRUE(
      mmu()
          .ProtectRange(Frames(4, 5), {.read = true}, [] { return false; })
          .status.ok());
  EXPECT_EQ(Fault(6, true), FaultResult::kFixed);
  EXPECT_THAT(Mapped(), ::testing::ElementsAre(2, 5, 6, 7, 8, 9));
}

TEST_F(FaultAroundTest, AWriteThatIsTrackedIsGrantedAlone) {
  slot_->set_tracks_writes(true);
  EXPECT_EQ(Fault(6, true), FaultResult::kFixed);
  EXPECT_THAT(Mapped(), ::testing::ElementsAre(6));
  EXPECT_EQ(Fault(8, false), FaultResult::kFixed);
  EXPECT_EQ(Mapped().size(), 10u) << "7 to 15, and 6";
  EXPECT_FALSE(slot_->Grants(Gfn(9), true));
  EXPECT_THAT(slot_->TakeWritten(), ::testing::ElementsAre(Gfn(6)));
}

TEST_F(FaultAroundTest, AHostThatMapsAPartMapsTheRestLater) {
  for (const uint64_t done : {0, 1, 5}) {
    host().set_hook([&](const HostCall& call) {
      if (call.kind != HostCallKind::kMap || call.run.size() == 1) {
        return HostFailure{};
      }
      return HostFailure{.error = EFAULT, .applied_frames = done};
    });
    ASSERT_EQ(Fault(4, true), FaultResult::kFixed) << done;
    EXPECT_TRUE(slot_->Grants(Gfn(4), true)) << done;
    EXPECT_EQ(Entry(5).IsPresent(), false) << done;
    EXPECT_EQ(Entry(0).IsPresent(), done > 0) << done;
    host().ClearHook();
    ASSERT_TRUE(Zap(0, 48).status.ok());
  }
}

TEST_F(HandleFaultTest, TheTableLimitFailsTheFaultAndChangesNothing) {
  AddSlot(0, 64);
  Start(PageLevel::k512G, 2 * static_cast<int64_t>(kPageSize));
  const FaultOutcome outcome = mmu().HandleFault({Gfn(5), true});
  EXPECT_EQ(outcome.result, FaultResult::kFailed);
  EXPECT_EQ(DetailOf(outcome.status)->reason, ErrorReason::kPageTableLimit);
  EXPECT_EQ(host().call_count(), 0);
}

TEST_F(HandleFaultTest, A1GLeafIsRenewedWholeAndSplitForAWrite) {
  const uint64_t giant = FramesPerEntry(PageLevel::k1G);
  FakeBacking& slot = AddSlot(0, giant, PageLevel::k2M);
  Start();
  InstallGiantLeaf(slot, Gfn(0), /*writable=*/false);
  slot.SetHost(Frames(777, 778), {});
  EXPECT_EQ(Fault(777, false), FaultResult::kSpurious);
  EXPECT_EQ(Leaves(PageLevel::k1G), 1);
  EXPECT_EQ(Fault(777, true), FaultResult::kWriteProtected);
  EXPECT_EQ(Leaves(PageLevel::k2M), 512);
  EXPECT_EQ(Last(777).level, PageLevel::k2M);
  EXPECT_THAT(Entry(777), IsWritableLeaf());
  EXPECT_THAT(Entry(3 * kBlock), IsReadOnlyLeaf());
}

TEST_F(HandleFaultTest, AFrozenEntryIsARetryThatItsOwnerWakes) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  Event inside;
  Event go_on;
  host().set_hook([&](const HostCall& call) {
    if (call.number == 1) {
      inside.Set();
      EXPECT_TRUE(go_on.Wait());
    }
    return HostFailure{};
  });
  std::thread mapper([&] { EXPECT_TRUE(Map(0, 64).status.ok()); });
  ASSERT_TRUE(inside.Wait());
  const uint64_t wakes = slot.WakeCount(Gfn(63));
  EXPECT_EQ(Fault(63, false), FaultResult::kRetry);
  EXPECT_EQ(slot.WakeCount(Gfn(63)), wakes);
  go_on.Set();
  EXPECT_TRUE(slot.WaitForWake(Gfn(63), wakes, kTestPatience));
  EXPECT_TRUE(slot.Grants(Gfn(63), false)) << "woken after the final value";
  mapper.join();
  EXPECT_EQ(mmu().Read(MmuCounter::kFaultRetry), 1);
}

// Every kind of owner wakes whoever met its FROZEN entry.
class OwnerTest : public TdpMmuTest {
 protected:
  // Runs `verb`, holds it in its first host call, lets a vCPU fault on `gfn`
  // meanwhile, and expects that the vCPU is woken.
  void ExpectWakes(uint64_t gfn, const std::function<void()>& verb) {
    FakeBacking& slot = *backings_.Find(Gfn(gfn));
    Event inside;
    Event go_on;
    const int64_t first = host().call_count() + 1;
    host().set_hook([&, first](const HostCall& call) {
      if (call.number == first) {
        inside.Set();
        EXPECT_TRUE(go_on.Wait());
      }
      return HostFailure{};
    });
    std::thread owner(verb);
    ASSERT_TRUE(inside.Wait());
    const uint64_t wakes = slot.WakeCount(Gfn(gfn));
    EXPECT_EQ(Fault(gfn, true), FaultResult::kRetry);
    EXPECT_EQ(slot.WakeCount(Gfn(gfn)), wakes);
    go_on.Set();
    EXPECT_TRUE(slot.WaitForWake(Gfn(gfn), wakes, kTestPatience));
    owner.join();
    host().ClearHook();
  }
};

TEST_F(OwnerTest, AZapWakes) {
  AddSlot(0, 2 * kBlock);
  Start();
  ASSERT_TRUE(Map(0, 2 * kBlock - 1).status.ok());
  ExpectWakes(kBlock - 1, [&] { Zap(0, 1); });  // a huge leaf
  ExpectWakes(kBlock + 9, [&] { Zap(kBlock, kBlock + 10); });
}

TEST_F(OwnerTest, AMapWakes) {
  AddSlot(0, 2 * kBlock);
  Start();
  ExpectWakes(kBlock - 1, [&] { Map(0, kBlock); });  // a huge leaf
  ExpectWakes(kBlock + 9, [&] { Map(kBlock, kBlock + 10); });
}

TEST_F(OwnerTest, AGrantOfWritesWakes) {
  AddSlot(0, 2 * kBlock);
  Start();
  ASSERT_TRUE(Map(0, 2 * kBlock - 1).status.ok());
  ExpectWakes(kBlock - 1, [&] { Fault(0, true); });  // a huge leaf
  ExpectWakes(kBlock + 9, [&] { MapWritable(kBlock, kBlock + 10); });
  ExpectWakes(kBlock + 20, [&] { Fault(kBlock + 20, true); });
}

TEST_F(OwnerTest, ASpuriousFaultWakes) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  ExpectWakes(kBlock - 1, [&] { Fault(0, false); });
}

TEST_F(OwnerTest, ASplitWakesEveryFrameOfTheLeaf) {
  const uint64_t giant = FramesPerEntry(PageLevel::k1G);
  FakeBacking& slot = AddSlot(0, giant);
  Start();
  InstallGiantLeaf(slot, Gfn(0), /*writable=*/true);
  const uint64_t wakes = slot.WakeCount(Gfn(giant - 1));
  ASSERT_TRUE(TdpMmuPeer::Split(mmu(), Gfn(5)).ok());
  EXPECT_GT(slot.WakeCount(Gfn(giant - 1)), wakes);
  EXPECT_EQ(Leaves(PageLevel::k2M), 512);
}

TEST_F(HandleFaultTest, OneFrameFaultedByManyIsFixedExactlyOnce) {
  constexpr int kVcpus = 4;
  constexpr uint64_t kFrames = 2000;
  AddSlot(0, kFrames);
  Start();
  const auto touch_all = [&](int64_t* fixed) {
    FakeVcpu vcpu(mmu(), backings_);
    for (uint64_t gfn = 0; gfn < kFrames; ++gfn) {
      ASSERT_EQ(vcpu.Touch(Gfn(gfn), true), TouchResult::kDone) << gfn;
    }
    *fixed = vcpu.fixed_count();
  };
  int64_t alone = 0;
  touch_all(&alone);
  EXPECT_EQ(alone, static_cast<int64_t>(kFrames));
  ZapAll();
  std::vector<int64_t> fixed(kVcpus);
  std::vector<std::thread> vcpus;
  for (int64_t& count : fixed) vcpus.emplace_back(touch_all, &count);
  for (std::thread& vcpu : vcpus) vcpu.join();
  int64_t sum = 0;
  for (const int64_t count : fixed) sum += count;
  EXPECT_EQ(sum, static_cast<int64_t>(kFrames));
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kFrames));
}

}  // namespace
}  // namespace tdp::testing
