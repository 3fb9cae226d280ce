#include <atomic>
#include <cerrno>
#include <random>
#include <thread>
#include <vector>

#include "engine/testing/event.h"
#include "engine/testing/fake_vcpu.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

using ZapAllTest = TdpMmuTest;

TEST_F(ZapAllTest, ANewObjectHasOneEmptyRoot) {
  Start(PageLevel::k256T);
  EXPECT_EQ(mmu().page_table_bytes(), static_cast<int64_t>(kPageSize));
  EXPECT_EQ(mmu().span(), Frames(0, uint64_t{1} << 45));
  const std::vector<TdpRoot> roots = TdpMmuPeer::Roots(mmu());
  ASSERT_EQ(roots.size(), 1u);
  EXPECT_EQ(roots[0].role, (RootRole{.level = PageLevel::k256T}));
}

TEST_F(ZapAllTest, RemovesEverythingAndGivesTheTablesBack) {
  FakeBacking& slot = AddSlot(0, 4 * kBlock);
  Start();
  ASSERT_TRUE(MapWritable(1, 4 * kBlock).status.ok());
  EXPECT_GT(mmu().page_table_bytes(), static_cast<int64_t>(kPageSize));
  ZapAll();
  EXPECT_EQ(Leaves(PageLevel::k4K) + Leaves(PageLevel::k2M), 0);
  EXPECT_FALSE(slot.At(Gfn(1)).present);
  rcu_.Barrier();
  EXPECT_EQ(mmu().page_table_bytes(), static_cast<int64_t>(kPageSize));
}

TEST_F(ZapAllTest, OfAnEmptyTreeIsLegal) {
  Start();
  for (int i = 0; i < 10; ++i) ZapAll();
  EXPECT_TRUE(mmu().ZapInvalidatedRoots().ok()) << "with no invalid root, too";
}

TEST_F(ZapAllTest, TheFirstAndTheLastFrameOfAFiveLevelRootAreZapped) {
  const uint64_t end = FramesOfRoot(PageLevel::k256T);
  AddSlot(0, 1);
  FakeBacking& last = AddSlot(end - 1, 1);
  Start(PageLevel::k256T);
  ASSERT_TRUE(MapWritable(0, 1).status.ok());
  ASSERT_TRUE(MapWritable(end - 1, end).status.ok());
  ZapAll();
  EXPECT_FALSE(last.At(Gfn(end - 1)).present);
}

TEST_F(ZapAllTest, AnInvalidatedRootStaysInForceUntilItIsZapped) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  ASSERT_TRUE(mmu().InvalidateRoots().ok());
  const std::vector<TdpRoot> roots = TdpMmuPeer::Roots(mmu());
  ASSERT_EQ(roots.size(), 2u);
  EXPECT_FALSE(roots[0].role.invalid);
  EXPECT_TRUE(roots[1].role.invalid);
  EXPECT_NE(roots[0].id, roots[1].id);
  EXPECT_THAT(Entry(5), IsNonPresent()) << "walks show the valid root";
  EXPECT_TRUE(slot.Grants(Gfn(5), true));
  EXPECT_TRUE(Audit().empty()) << "the host does what the old root says";
  EXPECT_EQ(Zap(5, 6).changed_frames, 1) << "a ranged zap reaches it";
  EXPECT_FALSE(slot.At(Gfn(5)).present);
}

TEST_F(ZapAllTest, AFaultTakesItsFrameOutOfInvalidatedRootsFirst) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Map(0, 64).status.ok());
  ASSERT_TRUE(mmu().InvalidateRoots().ok());
  EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
  EXPECT_THAT(Entry(5), IsWritableLeaf());
  EXPECT_TRUE(slot.Grants(Gfn(5), true));
  EXPECT_EQ(Leaves(PageLevel::k4K), 64);
  ExpectConsistent(HostMustBe::kEqual);
  ASSERT_TRUE(mmu().ZapInvalidatedRoots().ok());
  EXPECT_EQ(Leaves(PageLevel::k4K), 1);
  EXPECT_TRUE(slot.Grants(Gfn(5), true)) << "the new mapping is not zapped";
}

TEST_F(ZapAllTest, AMapTakesItsRangeOutOfSeveralInvalidatedRoots) {
  AddSlot(0, 4 * kBlock);
  Start();
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(Map(i * kBlock, (i + 1) * kBlock).status.ok());
    ASSERT_TRUE(mmu().InvalidateRoots().ok());
  }
  EXPECT_EQ(TdpMmuPeer::Roots(mmu()).size(), 4u);
  ASSERT_TRUE(MapWritable(5, 4 * kBlock).status.ok());
  ExpectConsistent(HostMustBe::kEqual);
  EXPECT_EQ(Last(kBlock).level, PageLevel::k2M);
}

TEST_F(ZapAllTest, AFailedHostCallLeavesTheRootToBeZappedAgain) {
  AddSlot(0, 2 * kBlock);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  ASSERT_TRUE(mmu().InvalidateRoots().ok());
  host().FailNth(2, {.error = ENOMEM});
  EXPECT_FALSE(mmu().ZapInvalidatedRoots().ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 1);
  EXPECT_EQ(TdpMmuPeer::Roots(mmu()).size(), 2u);
  EXPECT_TRUE(mmu().ZapInvalidatedRoots().ok());
  EXPECT_EQ(TdpMmuPeer::Roots(mmu()).size(), 1u);
}

TEST_F(ZapAllTest, WorksAtTheTableLimit) {
  AddSlot(0, 64 * kBlock);
  Start(PageLevel::k512G, 16 * static_cast<int64_t>(kPageSize));
  EXPECT_FALSE(Map(0, 64 * kBlock, {.max_level = PageLevel::k4K}).status.ok());
  for (int i = 0; i < 3; ++i) ZapAll();
  EXPECT_TRUE(Map(0, kBlock).status.ok());
}

TEST_F(ZapAllTest, UnlinkedTablesAreFrozenForWhoeverIsStillInThem) {
  AddSlot(0, kBlock);
  Start();
  ASSERT_TRUE(Map(3, 4).status.ok());
  ExpectTableFrozenBy(3, [&] { ZapAll(); });
  ExpectTableFrozenBy(3, [&] { ZapAll(); });  // the root itself
}

TEST_F(ZapAllTest, ARootStaysValidWhileAnInstallerHoldsTheLock) {
  Start();
  Event done;
  std::thread invalidator;
  {
    MmuReadGuard installing(TdpMmuPeer::Lock(mmu()));
    invalidator = std::thread([&] {
      EXPECT_TRUE(mmu().InvalidateRoots().ok());
      done.Set();
    });
    EXPECT_FALSE(done.Wait(absl::Milliseconds(50)));
    EXPECT_EQ(TdpMmuPeer::Roots(mmu()).size(), 1u);
  }
  EXPECT_TRUE(done.Wait());
  invalidator.join();
  EXPECT_EQ(TdpMmuPeer::Roots(mmu()).size(), 2u);
}

TEST_F(ZapAllTest, AMapInItsHostCallIsZappedWithItsRoot) {
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
  std::thread mapper([&] { EXPECT_TRUE(MapWritable(0, 64).status.ok()); });
  ASSERT_TRUE(inside.Wait());
  ASSERT_TRUE(mmu().InvalidateRoots().ok());
  Event zapped;
  std::thread zapper([&] {
    EXPECT_TRUE(mmu().ZapInvalidatedRoots().ok());
    zapped.Set();
  });
  // A fault in the new root waits for the owner in the old one.
  Event faulted;
  std::thread vcpu([&] {
    EXPECT_EQ(Fault(5, true), FaultResult::kFixed);
    faulted.Set();
  });
  EXPECT_FALSE(zapped.Wait(absl::Milliseconds(50)));
  EXPECT_FALSE(faulted.IsSet());
  go_on.Set();
  EXPECT_TRUE(zapped.Wait());
  EXPECT_TRUE(faulted.Wait());
  mapper.join();
  zapper.join();
  vcpu.join();
  EXPECT_EQ(Leaves(PageLevel::k4K), 1);
  EXPECT_TRUE(slot.Grants(Gfn(5), true));
  EXPECT_FALSE(slot.At(Gfn(6)).present);
}

TEST_F(ZapAllTest, AGrantInItsHostCallOutlivesTheInvalidation) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Map(0, 64).status.ok());
  Event inside;
  Event go_on;
  const int64_t calls = host().call_count();
  host().set_hook([&](const HostCall& call) {
    if (call.number == calls + 1) {
      inside.Set();
      EXPECT_TRUE(go_on.Wait());
    }
    return HostFailure{};
  });
  std::thread vcpu(
      [&] { EXPECT_EQ(Fault(5, true), FaultResult::kWriteProtected); });
  ASSERT_TRUE(inside.Wait());
  std::thread zapper([&] { ZapAll(); });
  go_on.Set();
  vcpu.join();
  zapper.join();
  EXPECT_EQ(Leaves(PageLevel::k4K), 0);
  EXPECT_FALSE(slot.At(Gfn(5)).present);
}

TEST_F(ZapAllTest, ARootThatAVerbWorksOnGoesWhenTheVerbIsDone) {
  AddSlot(0, 2 * kBlock);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  bool looked = false;
  // The zap works on the old root while another thread invalidates and zaps it.
  const MmuProgress zap = mmu().ZapRange(Frames(0, 2 * kBlock), [&] {
    if (looked) return false;
    looked = true;
    std::thread([&] { ZapAll(); }).join();
    EXPECT_EQ(mmu().invalid_root_count(), 1u) << "kept by the verb";
    EXPECT_EQ(Leaves(PageLevel::k4K), 0) << "but empty";
    return false;
  });
  EXPECT_TRUE(zap.status.ok());
  EXPECT_EQ(zap.next_gfn, Gfn(2 * kBlock));
  EXPECT_EQ(mmu().invalid_root_count(), 0u);
  rcu_.Barrier();
  EXPECT_EQ(mmu().page_table_bytes(), static_cast<int64_t>(kPageSize));
}

TEST_F(ZapAllTest, AReferenceIsNotTakenOnceTheLastIsGone) {
  RootState state;
  EXPECT_TRUE(state.TryGet());
  EXPECT_FALSE(state.Put());
  EXPECT_TRUE(state.Put()) << "the last one";
  EXPECT_FALSE(state.TryGet());
}

TEST_F(ZapAllTest, CallersAtTheSameTimeAllFindTheRootsGone) {
  AddSlot(0, 4 * kBlock);
  Start();
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int turn = 0; turn < 50; ++turn) {
        ASSERT_TRUE(MapWritable(0, 4 * kBlock).status.ok());
        ZapAll();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(TdpMmuPeer::Roots(mmu()).size(), 1u);
}

// One vCPU each of a group touches random frames while another thread zaps
// everything. Every sleeper must be woken.
TEST_F(ZapAllTest, RacesWithFaultsAndLosesNoWakeup) {
  constexpr uint64_t kSeed = 7;
  constexpr uint64_t kFrames = 3 * kBlock;
  AddSlot(100, kBlock / 2);
  AddSlot(100 + kBlock / 2, kFrames, PageLevel::k2M);
  Start();
  SlowHost();
  std::atomic<bool> stop{false};
  const auto touch = [&](uint64_t seed, int touches) {
    FakeVcpu vcpu(mmu(), backings_);
    std::mt19937_64 random(seed);
    for (int i = 0; i < touches; ++i) {
      const uint64_t gfn = 100 + random() % (kFrames + kBlock / 2);
      ASSERT_EQ(vcpu.Touch(Gfn(gfn), random() % 2 == 0), TouchResult::kDone)
          << "seed " << seed << ", touch " << i << ", frame " << gfn;
    }
  };
  touch(kSeed, 500);
  std::thread zapper([&] {
    while (!stop.load()) ZapAll();
  });
  std::vector<std::thread> vcpus;
  for (uint64_t i = 1; i <= 3; ++i) {
    vcpus.emplace_back(touch, kSeed + i, 6000);
  }
  for (std::thread& vcpu : vcpus) vcpu.join();
  stop.store(true);
  zapper.join();
}

TEST_F(ZapAllTest, RacesWithMapsAndGivesEveryTableBack) {
  AddSlot(3, 4 * kBlock);
  Start();
  std::atomic<bool> stop{false};
  std::vector<std::thread> mappers;
  for (int i = 0; i < 2; ++i) {
    mappers.emplace_back([&, i] {
      const PageLevel level = i == 0 ? PageLevel::k2M : PageLevel::k4K;
      while (!stop.load()) {
        const MmuProgress progress =
            Map(3, 3 + 4 * kBlock, {.max_level = level, .write = i == 0});
        ASSERT_TRUE(progress.status.ok()) << progress.status;
      }
    });
  }
  for (int i = 0; i < 200; ++i) ZapAll();
  stop.store(true);
  for (std::thread& mapper : mappers) mapper.join();
  ExpectConsistent(HostMustBe::kEqual);
  ZapAll();
  rcu_.Barrier();
  EXPECT_EQ(mmu().page_table_bytes(), static_cast<int64_t>(kPageSize));
}

}  // namespace
}  // namespace tdp::testing
