#include <cerrno>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

using Kind = MmuOperation::Kind;

constexpr Access kRead = {.read = true};

class ApplyBatchTest : public TdpMmuTest {
 protected:
  BatchOutcome Apply(std::vector<MmuOperation> operations) {
    return mmu().ApplyBatch(operations);
  }
};

TEST_F(ApplyBatchTest, EachOperationDoesWhatItsVerbDoes) {
  FakeBacking& slot = AddSlot(0, 256);
  Start();
  ASSERT_TRUE(MapWritable(0, 128).status.ok());
  const BatchOutcome outcome =
      Apply({{.kind = Kind::kMap, .range = Frames(200, 210), .write = true},
             {.kind = Kind::kZap, .range = Frames(0, 10)},
             {.kind = Kind::kProtect, .range = Frames(20, 30), .access = kRead},
             {.kind = Kind::kProtect, .range = Frames(30, 32), .access = {}},
             {.kind = Kind::kWriteProtect, .range = Frames(40, 50)},
             {.kind = Kind::kMap, .range = Frames(220, 221)}});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.changed_entries, 10 + 10 + 10 + 2 + 10 + 1);
  EXPECT_GT(outcome.hold_duration, absl::ZeroDuration());
  EXPECT_TRUE(slot.Grants(Gfn(200), true));
  EXPECT_FALSE(slot.Grants(Gfn(0), false));
  EXPECT_FALSE(slot.Grants(Gfn(20), true));
  EXPECT_EQ(Fault(20, true), FaultResult::kForbidden);
  EXPECT_EQ(Fault(31, false), FaultResult::kForbidden);
  EXPECT_EQ(Fault(40, true), FaultResult::kWriteProtected);
  EXPECT_THAT(Entry(220), IsReadOnlyLeaf());
  EXPECT_TRUE(slot.Grants(Gfn(10), true)) << "neighbours are not touched";
  EXPECT_TRUE(Audit().empty());
}

TEST_F(ApplyBatchTest, HugeLeavesThatStraddleAreSplitAndOthersStay) {
  FakeBacking& slot = AddSlot(0, 3 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, 3 * kBlock).status.ok());
  const BatchOutcome outcome =
      Apply({{.kind = Kind::kZap, .range = Frames(8, 16)},
             {.kind = Kind::kWriteProtect, .range = Frames(kBlock, 2 * kBlock)},
             {.kind = Kind::kMap, .range = Frames(2 * kBlock, 3 * kBlock)}});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.changed_entries, 8 + 1);
  EXPECT_EQ(Leaves(PageLevel::k2M), 2);
  EXPECT_TRUE(slot.Grants(Gfn(7), true));
  EXPECT_FALSE(slot.Grants(Gfn(8), false));
}

TEST_F(ApplyBatchTest, PartsOfAStraddlingLeafCountAsTheLeafThatTheyWere) {
  FakeBacking& slot = AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  ASSERT_TRUE(MapWritable(0, kBlock).status.ok());
  const MapOptions small = {.max_level = PageLevel::k4K, .write = true};
  ASSERT_TRUE(Map(kBlock, 2 * kBlock, small).status.ok());
  const BatchOutcome outcome = Apply({{.kind = Kind::kWriteProtect,
                                       .range = Frames(8, 2 * kBlock),
                                       .min_level = PageLevel::k2M}});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.changed_entries, kBlock - 8);
  EXPECT_TRUE(slot.Grants(Gfn(7), true));
  EXPECT_FALSE(slot.Grants(Gfn(8), true));
  EXPECT_TRUE(slot.Grants(Gfn(kBlock), true)) << "a 4K leaf all along";
}

TEST_F(ApplyBatchTest, NothingHappensUnlessEveryFrameToGrantIsBacked) {
  AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  const BatchOutcome outcome =
      Apply({{.kind = Kind::kZap, .range = Frames(0, 8)},
             {.kind = Kind::kMap, .range = Frames(60, 65)}});
  EXPECT_EQ(ReasonOf(outcome.status), ErrorReason::kGfnNotBacked);
  EXPECT_EQ(Leaves(PageLevel::k4K), 64);
}

TEST_F(ApplyBatchTest, FramesWithoutMemslotAreSkippedByWhatTakesAway) {
  AddSlot(0, 8);
  AddSlot(100, 8);
  Start();
  ASSERT_TRUE(MapWritable(0, 8).status.ok());
  ASSERT_TRUE(MapWritable(100, 108).status.ok());
  const BatchOutcome outcome =
      Apply({{.kind = Kind::kZap, .range = Frames(0, 104)},
             {.kind = Kind::kWriteProtect, .range = Frames(104, 4000)}});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.changed_entries, 16);
}

TEST_F(ApplyBatchTest, AFailureAtAnyHostCallLeavesOldAccessOrLess) {
  FakeBacking& slot = AddSlot(0, 256);
  Start();
  AllowStricterHost();
  for (int64_t n = 1;; ++n) {
    for (uint64_t applied : {uint64_t{0}, uint64_t{5}}) {
      ASSERT_TRUE(
          mmu()
              .ProtectRange(Frames(0, 256), {true, true}, [] { return false; })
              .status.ok());
      ASSERT_TRUE(Zap(0, 256).status.ok());
      ASSERT_TRUE(MapWritable(0, 128).status.ok());
      std::vector<HostFrame> before;
      for (uint64_t i = 0; i < 256; ++i) before.push_back(slot.At(Gfn(i)));
      host().FailNth(n, {.error = ENOMEM, .applied_frames = applied});
      const BatchOutcome outcome = Apply(
          {{.kind = Kind::kMap, .range = Frames(200, 210), .write = true},
           {.kind = Kind::kZap, .range = Frames(0, 10)},
           {.kind = Kind::kProtect, .range = Frames(20, 30), .access = kRead},
           {.kind = Kind::kWriteProtect, .range = Frames(40, 50)}});
      host().ClearHook();
      if (outcome.status.ok()) {
        EXPECT_EQ(n, 5) << "four host calls were failed in turn";
        return;
      }
      EXPECT_EQ(outcome.changed_entries, 0);
      for (uint64_t i = 0; i < 256; ++i) {
        const HostFrame after = slot.At(Gfn(i));
        EXPECT_TRUE(before[i].present || !after.present) << i;
        EXPECT_TRUE(before[i].writable || !after.writable) << i;
      }
      EXPECT_EQ(mmu().LimitOf(Gfn(25)), AccessLimits::kUnlimited);
      EXPECT_NE(Fault(25, true), FaultResult::kForbidden);
      EXPECT_NE(Fault(5, true), FaultResult::kForbidden);
      EXPECT_TRUE(slot.Grants(Gfn(25), true));
    }
  }
}

TEST_F(ApplyBatchTest, ContentThatIsLostOnTheWayIsLoadedAgain) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  bool discarded = false;
  host().set_hook([&](const HostCall& call) {
    if (call.kind == HostCallKind::kMap && !discarded) {
      discarded = true;
      slot.DiscardContent(Frames(3, 4));
    }
    return HostFailure{};
  });
  const BatchOutcome outcome =
      Apply({{.kind = Kind::kMap, .range = Frames(0, 8), .write = true}});
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.changed_entries, 8);
}

TEST_F(ApplyBatchTest, GivesUpAfterSomeTriesWhileAnotherOwnsAnEntry) {
  FakeBacking& slot = AddSlot(0, 64);
  Start();
  ASSERT_TRUE(MapWritable(0, 64).status.ok());
  {
    TdpMmuPeer::Owner owner(mmu(), Gfn(5));
    const uint64_t wakes = slot.WakeCount(Gfn(0));
    const BatchOutcome outcome =
        Apply({{.kind = Kind::kZap, .range = Frames(0, 10)}});
    EXPECT_EQ(ReasonOf(outcome.status), ErrorReason::kOperationConflict);
    EXPECT_GT(slot.WakeCount(Gfn(0)), wakes)
        << "who met an entry that was frozen for a while looks again";
    EXPECT_EQ(Leaves(PageLevel::k4K), 64);
  }
  EXPECT_TRUE(
      Apply({{.kind = Kind::kZap, .range = Frames(0, 10)}}).status.ok());
}

TEST_F(ApplyBatchTest, AWalkSeesAllOfItOrNothing) {
  constexpr int kTurns = 400;
  AddSlot(0, 2 * kBlock);
  Start();
  ASSERT_TRUE(MapWritable(0, 2 * kBlock).status.ok());
  // The batches swap which half is mapped; a walk never sees both or none.
  ASSERT_TRUE(Zap(kBlock, kBlock + 8).status.ok());
  std::atomic<bool> stop = false;
  std::atomic<int> walks = 0;
  std::thread walker([&] {
    const std::vector<uint64_t> gfns = {3, kBlock + 3};
    for (; !stop; ++walks) {
      bool frozen = false;
      Spte first[2];
      mmu().WalkFrames(gfns, Prefetch::kNo,
                       [&](size_t i, const WalkedEntry& entry) {
                         first[i] = entry.spte;
                         frozen |= entry.spte.IsFrozen();
                       });
      // Both entries at one instant: the second look finds the first unchanged.
      const Spte again = Entry(3);
      if (frozen || again != first[0]) continue;
      ASSERT_NE(first[0].IsPresent(), first[1].IsPresent());
    }
  });
  for (int i = 0; i < kTurns || walks < kTurns; ++i) {
    const uint64_t from = i % 2 == 0 ? 0 : kBlock;
    const uint64_t to = kBlock - from;
    ASSERT_TRUE(
        Apply(
            {{.kind = Kind::kZap, .range = Frames(from, from + 8)},
             {.kind = Kind::kMap, .range = Frames(to, to + 8), .write = true}})
            .status.ok());
  }
  stop = true;
  walker.join();
}

TEST_F(ApplyBatchTest, RacesWithEveryOtherVerbKeepTheOneRule) {
  constexpr uint64_t kTurns = 200;
  AddSlot(0, 2 * kBlock, PageLevel::k2M);
  Start();
  SlowHost();
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> turns = 0;
  std::thread faults([&] {
    for (uint64_t i = 0; !stop; ++i) {
      (void)Fault(i * 97 % (2 * kBlock), i % 2 == 0);
    }
  });
  std::thread others([&] {
    for (uint64_t i = 0; !stop; ++i) {
      if (i % 16 == 0) ZapAll();
      (void)Zap(i % 64, i % 64 + 3);
      (void)mmu().CollapseHugePages(Frames(0, 2 * kBlock), PageLevel::k2M,
                                    [] { return false; });
      (void)mmu().AgeRange(
          Frames(0, 2 * kBlock), false, [] { return false; }, [](GfnRange) {});
      ++turns;
    }
  });
  for (uint64_t i = 0; i < kTurns || turns < kTurns; ++i) {
    const uint64_t first = i % 64;
    const BatchOutcome outcome = Apply(
        {{.kind = Kind::kZap, .range = Frames(first, first + 30)},
         {.kind = Kind::kMap, .range = Frames(kBlock, kBlock + 64)},
         {.kind = Kind::kProtect, .range = Frames(600, 700), .access = kRead},
         {.kind = Kind::kWriteProtect, .range = Frames(800, 900)}});
    if (!outcome.status.ok()) {
      ASSERT_EQ(ReasonOf(outcome.status), ErrorReason::kOperationConflict);
    }
  }
  stop = true;
  faults.join();
  others.join();
}

}  // namespace
}  // namespace tdp::testing
