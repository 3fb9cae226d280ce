#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "engine/testing/event.h"
#include "engine/testing/fake_vcpu.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

using AuditTest = TdpMmuTest;

TEST_F(AuditTest, FindsNothingWhereTablesAndHostAgree) {
  AddSlot(100, 3 * kBlock);
  Start();
  EXPECT_TRUE(Audit().empty());
  ASSERT_TRUE(MapWritable(100, 100 + 2 * kBlock).status.ok());
  ASSERT_TRUE(Map(100 + 2 * kBlock, 100 + 3 * kBlock).status.ok());
  EXPECT_TRUE(Audit().empty());
}

TEST_F(AuditTest, ComparesTheBackedFramesOfTheRangeAlone) {
  AddSlot(10, 10);
  AddSlot(600, 5);
  Start();
  const auto audit = [&](GfnRange range) {
    return mmu().AuditRange(
        range, [] { return false; }, [](const AuditFinding&) {});
  };
  EXPECT_EQ(audit(mmu().span()).compared_frames, 15);
  EXPECT_EQ(audit(Frames(0, 10)).compared_frames, 0);
  EXPECT_EQ(audit(Frames(19, 601)).compared_frames, 2);
  EXPECT_EQ(audit(Frames(19, 601)).next_gfn, Gfn(601));
  EXPECT_EQ(audit(Frames(0, ~uint64_t{0})).compared_frames, 15);
}

TEST_F(AuditTest, TellsAHostThatGrantsMoreFromOneThatGrantsLess) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(Map(0, 10).status.ok());
  slot.SetHost(Frames(3, 4), {});                                   // less
  slot.SetHost(Frames(4, 5), {.present = true, .writable = true});  // more
  slot.SetHost(Frames(20, 21), {.present = true});                  // more
  const std::vector<AuditFinding> findings = Audit();
  ASSERT_EQ(findings.size(), 3u);
  EXPECT_EQ(findings[0].gfn, Gfn(3));
  EXPECT_FALSE(findings[0].host_grants_more);
  EXPECT_THAT(findings[0].entry.spte, IsReadOnlyLeaf());
  EXPECT_EQ(findings[1].gfn, Gfn(4));
  EXPECT_TRUE(findings[1].host_grants_more);
  EXPECT_EQ(findings[2].gfn, Gfn(20));
  EXPECT_TRUE(findings[2].host_grants_more);
  EXPECT_THAT(findings[2].entry.spte, IsNonPresent());
  slot.SetHost(Frames(3, 5), {.present = true});
  slot.SetHost(Frames(20, 21), {});
}

TEST_F(AuditTest, FindsASingleFrameOfAHugeLeaf) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock);
  Start();
  AllowStricterHost();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  slot.SetHost(Frames(kBlock - 1, kBlock), {.present = true});
  const std::vector<AuditFinding> findings = Audit();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].gfn, Gfn(kBlock - 1));
  EXPECT_EQ(findings[0].entry.level, PageLevel::k2M);
  EXPECT_FALSE(findings[0].host_grants_more);
}

TEST_F(AuditTest, A1GLeafIsComparedFrameByFrame) {
  const uint64_t giant = FramesPerEntry(PageLevel::k1G);
  FakeBacking& slot = AddSlot(0, giant);
  Start();
  AllowStricterHost();
  InstallGiantLeaf(slot, Gfn(0), /*writable=*/true);
  EXPECT_TRUE(Audit().empty());
  slot.SetHost(Frames(giant - 1, giant), {});
  const std::vector<AuditFinding> findings = Audit();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].gfn, Gfn(giant - 1));
  EXPECT_EQ(findings[0].entry.level, PageLevel::k1G);
  EXPECT_EQ(Leaves(PageLevel::k1G), 1) << "looking changes nothing";
}

TEST_F(AuditTest, AStopEndsItBetweenBlocks) {
  AddSlot(0, 3 * kBlock);
  Start();
  const AuditProgress progress = mmu().AuditRange(
      Frames(0, 3 * kBlock), [] { return true; }, [](const AuditFinding&) {});
  EXPECT_EQ(progress.next_gfn, Gfn(kBlock));
}

TEST_F(AuditTest, AVcpuThatMeetsAnAuditedEntryIsWoken) {
  FakeBacking& slot = AddSlot(0, 64);
  FakeBacking& other = AddSlot(kBlock, 64);
  Start();
  slot.SetHost(Frames(5, 6), {.present = true});
  const uint64_t wakes = other.WakeCount(Gfn(kBlock + 63));
  EXPECT_EQ(Audit().size(), 1u);
  EXPECT_GT(other.WakeCount(Gfn(kBlock + 63)), wakes)
      << "the audited entry was the root's, which covers both memslots";
  slot.SetHost(Frames(5, 6), {});
}

TEST_F(AuditTest, AFrameInTheMiddleOfAChangeIsWaitedFor) {
  AddSlot(0, 64);
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
  Event done;
  std::thread auditor([&] {
    EXPECT_TRUE(Audit().empty());
    done.Set();
  });
  EXPECT_FALSE(done.Wait(absl::Milliseconds(50)));
  go_on.Set();
  EXPECT_TRUE(done.Wait());
  mapper.join();
  auditor.join();
}

TEST_F(AuditTest, FindsNoDivergenceWhileEverythingChanges) {
  constexpr uint64_t kSeed = 11;
  constexpr uint64_t kStart = 100;
  constexpr uint64_t kEnd = kStart + 4 * kBlock;
  AddSlot(kStart, kBlock);
  AddSlot(kStart + kBlock, 3 * kBlock, PageLevel::k2M);
  Start();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      FakeVcpu vcpu(mmu(), backings_);
      std::mt19937_64 random(kSeed + i);
      while (!stop.load()) {
        const uint64_t gfn = kStart + random() % (kEnd - kStart);
        ASSERT_EQ(vcpu.Touch(Gfn(gfn), random() % 2 == 0), TouchResult::kDone)
            << "seed " << kSeed + i;
      }
    });
  }
  threads.emplace_back([&] {
    std::mt19937_64 random(kSeed + 2);
    while (!stop.load()) {
      const uint64_t start = kStart + random() % (kEnd - kStart);
      const uint64_t end = std::min(kEnd, start + 1 + random() % 1000);
      switch (random() % 4) {
        case 0:
          ASSERT_TRUE(Zap(start, end).status.ok());
          break;
        case 1:
          ASSERT_TRUE(MapWritable(start, end).status.ok());
          break;
        case 2:
          ASSERT_TRUE(Map(start, end).status.ok());
          break;
        default:
          if (random() % 8 == 0) ZapAll();
      }
    }
  });
  for (int turn = 0; turn < 100; ++turn) {
    ASSERT_TRUE(Audit().empty()) << "seed " << kSeed;
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tdp::testing
