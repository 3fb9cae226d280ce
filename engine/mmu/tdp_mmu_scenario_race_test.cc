// The scenarios of the reference that are about dirty logging, aging, retries
// and roots: 9 to 12, 16 to 18 and 20 to 23. tdp_mmu_scenario_test.cc has the
// others and says what is left out.

#include <atomic>
#include <memory>
#include <random>
#include <set>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "engine/testing/event.h"
#include "engine/testing/fake_vcpu.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

class TdpMmuScenarioRaceTest : public TdpMmuTest {
 protected:
  static bool Never() { return false; }

  MmuProgress WriteProtect(uint64_t start, uint64_t end) {
    return mmu().WriteProtectRange(Frames(start, end), PageLevel::k4K, Never);
  }
  MmuProgress Split(uint64_t start, uint64_t end) {
    return mmu().SplitHugePages(Frames(start, end), PageLevel::k4K, Never);
  }
  MmuProgress Collapse(uint64_t start, uint64_t end) {
    return mmu().CollapseHugePages(Frames(start, end), PageLevel::k2M, Never);
  }
  std::set<uint64_t> Age(uint64_t start, uint64_t end) {
    std::set<uint64_t> young;
    EXPECT_TRUE(mmu()
                    .AgeRange(Frames(start, end), /*test_only=*/false, Never,
                              [&](GfnRange run) {
                                for (Gfn gfn = run.start; gfn < run.end;
                                     gfn += 1) {
                                  young.insert(gfn.value());
                                }
                              })
                    .status.ok());
    return young;
  }
  TouchResult Touch(uint64_t gfn, bool write) {
    return FakeVcpu(mmu(), backings_).Touch(Gfn(gfn), write);
  }
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

// 9
TEST_F(TdpMmuScenarioRaceTest, EveryWriteIsInThisOrTheNextCollectedDirtySet) {
  constexpr uint64_t kFrames = 600;
  FakeBacking& slot = AddSlot(0, kFrames);
  Start();
  std::vector<std::atomic<uint64_t>> data(kFrames);
  std::vector<std::atomic<bool>> dirty(kFrames);
  // Stands for the TLB: after a collector has been alone for a moment, no
  // write goes on that began under an older grant.
  std::shared_mutex in_guest;
  std::atomic<int64_t> writes{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> vcpus;
  for (uint64_t i = 0; i < 3; ++i) {
    vcpus.emplace_back([&, i] {
      std::mt19937_64 random(i);
      while (!stop.load()) {
        const uint64_t gfn = random() % kFrames;
        std::shared_lock<std::shared_mutex> running(in_guest);
        while (!slot.Grants(Gfn(gfn), true)) {
          const FaultResult result = Fault(gfn, true);
          if (result == FaultResult::kFixed ||
              result == FaultResult::kWriteProtected) {
            dirty[gfn].store(true);
          }
        }
        ++data[gfn];
        ++writes;
      }
    });
  }
  std::vector<uint64_t> before(kFrames);
  std::vector<bool> reported_before(kFrames);
  for (int round = 0; round < 40; ++round) {
    const int64_t goal = writes.load() + 300;
    while (writes.load() < goal) std::this_thread::yield();
    std::vector<bool> reported(kFrames);
    for (uint64_t gfn = 0; gfn < kFrames; ++gfn) {
      reported[gfn] = dirty[gfn].exchange(false);
    }
    ASSERT_TRUE(WriteProtect(0, kFrames).status.ok());
    {
      std::unique_lock<std::shared_mutex> flush(in_guest);
    }
    for (uint64_t gfn = 0; gfn < kFrames; ++gfn) {
      const uint64_t now = data[gfn].load();
      ASSERT_TRUE(now == before[gfn] || reported[gfn] || reported_before[gfn] ||
                  dirty[gfn].load())
          << "the write of frame " << gfn << " is lost in round " << round;
      before[gfn] = now;
    }
    reported_before = reported;
  }
  stop.store(true);
  for (std::thread& vcpu : vcpus) vcpu.join();
}

// 10
TEST_F(TdpMmuScenarioRaceTest, LoggingSplitsHugePagesAndTheyComeBack) {
  constexpr uint64_t kEnd = 6 * kBlock;
  AddSlot(0, kEnd, PageLevel::k2M);
  Start();
  for (uint64_t gfn = 0; gfn < kEnd; gfn += 100) {
    ASSERT_EQ(Touch(gfn, true), TouchResult::kDone);
  }
  EXPECT_EQ(Leaves(PageLevel::k2M), 6);
  EXPECT_EQ(Leaves(PageLevel::k4K), 0);
  ASSERT_TRUE(Split(0, kEnd).status.ok());
  ASSERT_TRUE(WriteProtect(0, kEnd).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 0);
  EXPECT_EQ(Leaves(PageLevel::k4K), static_cast<int64_t>(kEnd));
  for (uint64_t gfn = 0; gfn < kEnd; ++gfn) {
    ASSERT_EQ(Touch(gfn, true), TouchResult::kDone);
  }
  ASSERT_TRUE(Collapse(0, kEnd).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 6);
  EXPECT_EQ(Leaves(PageLevel::k4K), 0);
}

// 11
TEST_F(TdpMmuScenarioRaceTest, ASplitChangesNoTranslationUnderRunningVcpus) {
  constexpr uint64_t kBlocks = 24;
  FakeBacking& slot = AddSlot(0, kBlocks * kBlock, PageLevel::k2M);
  // Tables for the path and for half of the splits.
  constexpr int64_t kTables = 3 + kBlocks / 2;
  Start(PageLevel::k512G, kTables * static_cast<int64_t>(kPageSize));
  ASSERT_TRUE(MapWritable(0, kBlocks * kBlock).status.ok());
  const int64_t calls = host().call_count();
  std::atomic<int> running{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> vcpus;
  for (uint64_t i = 0; i < 2; ++i) {
    vcpus.emplace_back([&, i] {
      ++running;
      std::mt19937_64 random(i);
      while (!stop.load()) {
        const Gfn gfn(random() % (kBlocks * kBlock));
        ASSERT_TRUE(slot.Grants(gfn, true)) << gfn.value();
        const WalkedEntry last = mmu().WalkFrame(gfn);
        if (last.spte.IsFrozen()) continue;
        ASSERT_TRUE(last.spte.IsLeaf(last.level));
        ASSERT_EQ(last.spte.pfn() + (gfn - last.gfn),
                  PfnOf(gfn, slot.range(), slot.base_pfn()));
        ASSERT_TRUE(last.spte.IsWritable());
      }
    });
  }
  while (running.load() < 2) std::this_thread::yield();
  const MmuProgress split = Split(0, kBlocks * kBlock);
  EXPECT_EQ(ReasonOf(split.status), ErrorReason::kPageTableLimit);
  stop.store(true);
  for (std::thread& vcpu : vcpus) vcpu.join();
  EXPECT_EQ(host().call_count(), calls) << "nothing is flushed";
  const int64_t left = Leaves(PageLevel::k2M);
  EXPECT_GT(left, 0);
  EXPECT_LT(left, static_cast<int64_t>(kBlocks));
  // What stayed huge is protected all the same, and granted on a write.
  ASSERT_TRUE(WriteProtect(0, kBlocks * kBlock).status.ok());
  EXPECT_FALSE(slot.Grants(Gfn(kBlocks * kBlock - 1), true));
  EXPECT_EQ(Fault(kBlocks * kBlock - 1, true), FaultResult::kWriteProtected);
  EXPECT_EQ(Leaves(PageLevel::k2M), left);
}

// 12
TEST_F(TdpMmuScenarioRaceTest, HugePagesComeBackUnderRunningVcpus) {
  constexpr uint64_t kEnd = 8 * kBlock;
  FakeBacking& slot = AddSlot(0, kEnd, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, kEnd).status.ok());
  ASSERT_TRUE(Split(0, kEnd).status.ok());
  ASSERT_TRUE(WriteProtect(0, kEnd).status.ok());
  std::atomic<uint64_t> written{0};
  std::vector<std::thread> vcpus;
  for (uint64_t i = 0; i < 2; ++i) {
    vcpus.emplace_back([&, i] {
      for (uint64_t gfn = i; gfn < kEnd; gfn += 2) {
        ASSERT_EQ(Touch(gfn, true), TouchResult::kDone);
        ++written;
      }
    });
  }
  while (written.load() < kEnd) {
    ASSERT_TRUE(Collapse(0, kEnd).status.ok());
    ASSERT_TRUE(slot.Grants(Gfn(kEnd - 1), false)) << "it is mapped throughout";
  }
  for (std::thread& vcpu : vcpus) vcpu.join();
  const int64_t calls = host().call_count();
  ASSERT_TRUE(Collapse(0, kEnd).status.ok());
  EXPECT_EQ(Leaves(PageLevel::k2M), 8);
  EXPECT_EQ(Leaves(PageLevel::k4K), 0);
  EXPECT_EQ(host().call_count(), calls) << "nothing is flushed";
}

// 16
TEST_F(TdpMmuScenarioRaceTest, WhatIsTouchedAfterAgingIsYoungAndNothingElse) {
  constexpr uint64_t kEnd = 2 * kBlock;
  AddSlot(0, kEnd);
  Start();
  ASSERT_TRUE(Map(0, kEnd, {.max_level = PageLevel::k4K}).status.ok());
  EXPECT_EQ(Age(0, kEnd).size(), kEnd);
  std::set<uint64_t> touched;
  std::mt19937_64 random(16);
  for (int i = 0; i < 300; ++i) {
    const uint64_t gfn = random() % kEnd;
    ASSERT_EQ(Touch(gfn, i % 2 == 0), TouchResult::kDone);
    touched.insert(gfn);
  }
  EXPECT_EQ(Age(0, kEnd), touched);
  // The same while tables come and go below it.
  std::atomic<bool> stop{false};
  std::atomic<int64_t> touches{0};
  std::thread vcpu([&] {
    std::mt19937_64 own(17);
    while (!stop.load()) {
      ASSERT_EQ(Touch(own() % kEnd, true), TouchResult::kDone);
      ++touches;
    }
  });
  std::thread zapper([&] {
    while (!stop.load()) ZapAll();
  });
  for (int i = 0; i < 300; ++i) {
    (void)Age(0, kEnd);
    const int64_t goal = touches.load() + 5;
    while (touches.load() < goal) std::this_thread::yield();
  }
  stop.store(true);
  vcpu.join();
  zapper.join();
}

// 17
TEST_F(TdpMmuScenarioRaceTest, AgeTouchAndZapOfOneEntryKeepItLegal) {
  FakeBacking& slot = AddSlot(0, 1);
  Start();
  SlowHost();
  std::atomic<bool> stop{false};
  std::thread ager([&] {
    while (!stop.load()) (void)Age(0, 1);
  });
  std::thread zapper([&] {
    while (!stop.load()) ASSERT_TRUE(Zap(0, 1).status.ok());
  });
  std::thread reader([&] {
    while (!stop.load()) ASSERT_EQ(Touch(0, false), TouchResult::kDone);
  });
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(Touch(0, true), TouchResult::kDone);
    const Spte spte = Entry(0);
    ASSERT_TRUE(!spte.IsPresent() || spte.CheckLeafInvariants());
  }
  stop.store(true);
  ager.join();
  zapper.join();
  reader.join();
  EXPECT_EQ(slot.At(Gfn(0)).present, Entry(0).IsHostMapped());
}

// 18
TEST_F(TdpMmuScenarioRaceTest, AWriteProtectedFrameIsGrantedWithItsDirtyBit) {
  AddSlot(0, 1);
  Start();
  SlowHost();
  std::atomic<bool> stop{false};
  std::thread protector([&] {
    while (!stop.load()) ASSERT_TRUE(WriteProtect(0, 1).status.ok());
  });
  std::thread zapper([&] {
    while (!stop.load()) {
      ASSERT_TRUE(Zap(0, 1).status.ok());
      ASSERT_TRUE(Map(0, 1).status.ok());
    }
  });
  std::thread walker([&] {
    while (!stop.load()) {
      const Spte spte = mmu().WalkFrame(Gfn(0)).spte;
      ASSERT_TRUE(!spte.IsWritable() || !spte.IsPresent() || spte.IsDirty());
    }
  });
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(Touch(0, true), TouchResult::kDone);
  }
  stop.store(true);
  protector.join();
  zapper.join();
  walker.join();
  EXPECT_GT(mmu().Read(MmuCounter::kFaultWriteProtected) +
                mmu().Read(MmuCounter::kFaultFixed),
            0);
}

// 20
TEST_F(TdpMmuScenarioRaceTest, AFaultIsRetriedAfterAnInvalidationOfItsRange) {
  FakeBacking& slot = AddSlot(0, 4 * kBlock);
  Start();
  const PageFault early = {.gfn = Gfn(5),
                           .sequence = mmu().ReadSequence(Gfn(5))};
  ASSERT_TRUE(Zap(2 * kBlock, 3 * kBlock).status.ok());
  EXPECT_EQ(mmu().HandleFault(early).result, FaultResult::kFixed)
      << "what was invalidated is elsewhere";
  ASSERT_TRUE(Zap(0, 8).status.ok());
  EXPECT_EQ(mmu().HandleFault(early).result, FaultResult::kRetry);
  EXPECT_FALSE(slot.At(Gfn(5)).present);
  // Two ranges with frames between them: both count.
  const PageFault first = {.gfn = Gfn(1),
                           .sequence = mmu().ReadSequence(Gfn(1))};
  const PageFault second = {.gfn = Gfn(3 * kBlock),
                            .sequence = mmu().ReadSequence(Gfn(3 * kBlock))};
  ASSERT_TRUE(Zap(0, 2).status.ok());
  ASSERT_TRUE(Zap(3 * kBlock, 3 * kBlock + 1).status.ok());
  EXPECT_EQ(mmu().HandleFault(first).result, FaultResult::kRetry);
  EXPECT_EQ(mmu().HandleFault(second).result, FaultResult::kRetry);
  EXPECT_EQ(Fault(1, false), FaultResult::kFixed) << "what is newer installs";
}

// 21
TEST_F(TdpMmuScenarioRaceTest, AnUnmapDuringAZapAllReachesTheInvalidRoot) {
  FakeBacking& slot = AddSlot(0, 4 * kBlock);
  Start();
  ASSERT_TRUE(MapWritable(0, 4 * kBlock).status.ok());
  ASSERT_TRUE(mmu().InvalidateRoots().ok());
  Event inside;
  Event go_on;
  HoldNextHostCall(inside, go_on);
  std::thread zapper([&] { EXPECT_TRUE(mmu().ZapInvalidatedRoots().ok()); });
  ASSERT_TRUE(inside.Wait());
  // The zapper is at the first block.
  EXPECT_EQ(Zap(2 * kBlock, 3 * kBlock).changed_frames,
            static_cast<int64_t>(kBlock));
  for (uint64_t gfn = 2 * kBlock; gfn < 3 * kBlock; ++gfn) {
    ASSERT_FALSE(slot.At(Gfn(gfn)).present) << gfn;
  }
  EXPECT_TRUE(slot.Grants(Gfn(3 * kBlock), true));
  go_on.Set();
  zapper.join();
  EXPECT_FALSE(slot.At(Gfn(3 * kBlock)).present);
}

// 22
TEST_F(TdpMmuScenarioRaceTest, InvalidationsAgainstFaultsEndWithOneFreshRoot) {
  AddSlot(0, kBlock);
  Start();
  std::atomic<bool> stop{false};
  std::atomic<int64_t> touches{0};
  std::vector<std::thread> others;
  others.emplace_back([&] {
    while (!stop.load()) ASSERT_TRUE(mmu().ZapInvalidatedRoots().ok());
  });
  for (uint64_t i = 0; i < 2; ++i) {
    others.emplace_back([&, i] {
      std::mt19937_64 random(i);
      while (!stop.load()) {
        ASSERT_EQ(Touch(random() % kBlock, true), TouchResult::kDone);
        ++touches;
      }
    });
  }
  int64_t newest = 0;
  for (int i = 0; i < 100; ++i) {
    const int64_t goal = touches.load() + 5;
    while (touches.load() < goal) std::this_thread::yield();
    ASSERT_TRUE(mmu().InvalidateRoots().ok());
    const std::vector<TdpRoot> roots = TdpMmuPeer::Roots(mmu());
    ASSERT_FALSE(roots[0].role.invalid);
    ASSERT_GT(roots[0].id, newest) << "a root is never valid again";
    newest = roots[0].id;
    for (size_t k = 1; k < roots.size(); ++k) {
      ASSERT_TRUE(roots[k].role.invalid);
    }
  }
  stop.store(true);
  for (std::thread& other : others) other.join();
  ASSERT_TRUE(mmu().ZapInvalidatedRoots().ok());
  EXPECT_EQ(mmu().invalid_root_count(), 0u);
}

// 23
TEST_F(TdpMmuScenarioRaceTest, TeardownWaitsForWhoeverIsStillInATable) {
  AddSlot(0, 8 * kBlock);
  Start();
  for (int turn = 0; turn < 20; ++turn) {
    absl::StatusOr<std::unique_ptr<TdpMmu>> other =
        TdpMmu::Create(rcu_, backings_, PageLevel::k512G, kTestLimitBytes);
    ASSERT_TRUE(other.ok());
    host().set_is_frozen(nullptr);
    ASSERT_TRUE((*other)
                    ->MapRange(Frames(1, 8 * kBlock),
                               {.max_level = PageLevel::k4K}, Never)
                    .status.ok());
    Event inside;
    Event go_on;
    std::atomic<bool> reading{true};
    std::thread reader([&] {
      RcuReadGuard rcu(rcu_);
      PageTable* table = TdpMmuPeer::LastTable(**other, Gfn(kBlock));
      inside.Set();
      EXPECT_TRUE(go_on.Wait());
      for (int i = 0; i < kEntriesPerTable; ++i) {
        EXPECT_THAT(ReadSpte(table->EntryAt(i)), IsFrozenEntry());
      }
      reading.store(false);
    });
    ASSERT_TRUE(inside.Wait());
    ASSERT_TRUE((*other)->InvalidateRoots().ok());
    std::thread zapper(
        [&] { EXPECT_TRUE((*other)->ZapInvalidatedRoots().ok()); });
    zapper.join();
    EXPECT_GT((*other)->retired_table_count(), 0);
    std::thread waker([&] { go_on.Set(); });
    other->reset();
    EXPECT_FALSE(reading.load()) << "its tables were still in use";
    waker.join();
    reader.join();
  }
  host().set_is_frozen(
      [this](Gfn gfn) { return TdpMmuPeer::IsFrozen(mmu(), gfn); });
}

}  // namespace
}  // namespace tdp::testing
