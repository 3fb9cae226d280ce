// Verbs that protect, age, split, collapse and batch against faults, zaps and
// walks, in all interleavings with few preemptions.

#include "engine/base/errors.h"
#include "engine/testing/interleaving_fixture.h"

namespace tdp::testing {
namespace {

class TdpMmuVerbsInterleavingTest : public InterleavingTest {
 protected:
  static constexpr uint64_t kBlock = MmuWorld::kBlock;
  static constexpr InterleaverOptions kFewEntries = {.max_entry_index = 3};

  // Some small leaves.
  static MmuVerb SmallLeaves(uint64_t mapped, bool write) {
    return [=](MmuWorld& world) {
      world.AddSlot(0, kBlock);
      world.StartScheduled();
      ASSERT_TRUE(
          world.Map(0, mapped, {.max_level = PageLevel::k4K, .write = write})
              .status.ok());
    };
  }
  static MmuVerb HugeLeaf(bool write) {
    return [=](MmuWorld& world) {
      world.AddSlot(0, kBlock, PageLevel::k2M);
      world.StartScheduled();
      ASSERT_TRUE(world.Map(0, kBlock, {.write = write}).status.ok());
      ASSERT_EQ(world.Leaves(PageLevel::k2M), 1);
    };
  }

  static bool Never() { return false; }

  static MmuVerb Splits() {
    return [](MmuWorld& world) {
      const MmuProgress progress = world.mmu().SplitHugePages(
          MmuWorld::Frames(0, kBlock), PageLevel::k4K, Never);
      EXPECT_TRUE(progress.status.ok()) << progress.status;
    };
  }
  static MmuVerb Collapses() {
    return [](MmuWorld& world) {
      const MmuProgress progress = world.mmu().CollapseHugePages(
          MmuWorld::Frames(0, kBlock), PageLevel::k2M, Never);
      EXPECT_TRUE(progress.status.ok()) << progress.status;
    };
  }
  static MmuVerb Ages(uint64_t start, uint64_t end) {
    return [=](MmuWorld& world) {
      const MmuProgress progress =
          world.mmu().AgeRange(MmuWorld::Frames(start, end),
                               /*test_only=*/false, Never, [](GfnRange) {});
      EXPECT_TRUE(progress.status.ok()) << progress.status;
    };
  }
  static MmuVerb WriteProtects(uint64_t start, uint64_t end) {
    return [=](MmuWorld& world) {
      const MmuProgress progress = world.mmu().WriteProtectRange(
          MmuWorld::Frames(start, end), PageLevel::k4K, Never);
      EXPECT_TRUE(progress.status.ok()) << progress.status;
    };
  }
  static MmuVerb Protects(uint64_t start, uint64_t end, Access limit) {
    return [=](MmuWorld& world) {
      const MmuProgress progress =
          world.mmu().ProtectRange(MmuWorld::Frames(start, end), limit, Never);
      EXPECT_TRUE(progress.status.ok()) << progress.status;
    };
  }
  static MmuVerb Batches(std::vector<MmuOperation> operations) {
    return [operations = std::move(operations)](MmuWorld& world) {
      const BatchOutcome outcome = world.mmu().ApplyBatch(operations);
      EXPECT_TRUE(outcome.status.ok() || absl::IsAborted(outcome.status))
          << outcome.status;
      world.note = outcome.status.ok() ? 1 : -1;
    };
  }
  // Zaps the first frame and write-protects the third.
  static MmuVerb BatchesTwo() {
    return Batches(
        {{.kind = MmuOperation::Kind::kZap, .range = MmuWorld::Frames(0, 1)},
         {.kind = MmuOperation::Kind::kWriteProtect,
          .range = MmuWorld::Frames(2, 3)}});
  }
  // A touch that a limit may forbid.
  static MmuVerb TouchesIfAllowed(uint64_t gfn, bool write) {
    return [=](MmuWorld& world) {
      const TouchResult result = world.Touch(gfn, write);
      EXPECT_TRUE(result == TouchResult::kDone ||
                  result == TouchResult::kForbidden);
    };
  }
  static void FrameOneIsGone(MmuWorld& world) {
    EXPECT_FALSE(world.Entry(1).IsPresent());
    EXPECT_FALSE(world.backings_.Find(Gfn(1))->At(Gfn(1)).present);
  }
  // Looks at a frame that is mapped at every instant.
  static MmuVerb SeesAlways(uint64_t gfn) {
    return [=](MmuWorld& world) {
      for (int i = 0; i < 3; ++i) {
        const WalkedEntry entry = world.mmu().WalkFrame(Gfn(gfn));
        // A small entry that is FROZEN is of an unlinked table: no answer.
        EXPECT_TRUE(entry.spte.IsLeaf(entry.level) ||
                    (entry.spte.IsFrozen() && entry.level == PageLevel::k2M));
        const WalkedEntry last = world.mmu().WalkGfn(Gfn(gfn)).back();
        EXPECT_TRUE(last.spte.IsLeaf(last.level) || last.spte.IsFrozen());
        EXPECT_TRUE(world.backings_.Find(Gfn(gfn))->At(Gfn(gfn)).present);
      }
    };
  }
};

// --- Split -------------------------------------------------------------------

TEST_F(TdpMmuVerbsInterleavingTest, ASplitAgainstAWriteFault) {
  Explore({.prepare = HugeLeaf(false),
           .threads = {Splits(), Touches(1, true)},
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ASplitAgainstAZap) {
  Explore({.prepare = HugeLeaf(true),
           .threads = {Splits(), Zaps(1, 2)},
           .check = FrameOneIsGone,
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ASplitKeepsEveryFrameMapped) {
  Explore({.prepare = HugeLeaf(true),
           .threads = {Splits(), SeesAlways(1)},
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ASplitAgainstAZapAll) {
  Explore({.prepare = HugeLeaf(true),
           .threads = {Splits(), ZapsAll()},
           .preemptions = 1,
           .options = kFewEntries});
}

// --- Collapse ----------------------------------------------------------------

TEST_F(TdpMmuVerbsInterleavingTest, ACollapseAgainstAWriteFault) {
  Explore({.prepare = SmallLeaves(kBlock, false),
           .threads = {Collapses(), Touches(1, true)},
           .options = kFewEntries});
}

// The collapse meets a leaf that is being changed and backs off; a third thread
// has met what it froze, and sleeps.
TEST_F(TdpMmuVerbsInterleavingTest, ACollapseThatBacksOffWakesTheSleeper) {
  Explore({.prepare = SmallLeaves(kBlock, false),
           .threads = {Collapses(), Touches(0, true), Touches(1, true)},
           .preemptions = 1,
           .random_schedules = 5000,
           .options = {.max_entry_index = 2}});
}

TEST_F(TdpMmuVerbsInterleavingTest, ACollapseAgainstAZap) {
  Explore({.prepare = SmallLeaves(kBlock, true),
           .threads = {Collapses(), Zaps(1, 2)},
           .check = FrameOneIsGone,
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ACollapseKeepsEveryFrameMapped) {
  Explore({.prepare = SmallLeaves(kBlock, true),
           .threads = {Collapses(), SeesAlways(1)},
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ACollapseAgainstASplit) {
  Explore({.prepare = SmallLeaves(kBlock, true),
           .threads = {Sequence({Collapses(), Splits()}), Splits()},
           .preemptions = 1,
           .random_schedules = 500,
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, TwoCollapses) {
  Explore({.prepare = SmallLeaves(kBlock, true),
           .threads = {Collapses(), Collapses()},
           .preemptions = 1,
           .random_schedules = 500,
           .options = kFewEntries});
}

// A huge leaf over aged frames promises more than the host maps: legal.
TEST_F(TdpMmuVerbsInterleavingTest, ACollapseAgainstAgeing) {
  Explore({.prepare =
               [](MmuWorld& world) {
                 SmallLeaves(kBlock, true)(world);
                 world.AllowStricterHost();
               },
           .threads = {Collapses(), Sequence({Ages(0, 3), Touches(1, false)})},
           .preemptions = 1,
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ACollapseAgainstAZapAll) {
  Explore({.prepare = SmallLeaves(kBlock, true),
           .threads = {Collapses(), ZapsAll()},
           .preemptions = 1,
           .random_schedules = 500,
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ACollapseAgainstAWriteProtect) {
  Explore(
      {.prepare = SmallLeaves(kBlock, true),
       .threads = {Collapses(), WriteProtects(1, 2)},
       .check =
           [](MmuWorld& world) { EXPECT_FALSE(world.Entry(1).IsWritable()); },
       .preemptions = 1,
       .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ACollapseAgainstAProtect) {
  Explore({.prepare = SmallLeaves(kBlock, true),
           .threads = {Collapses(), Protects(1, 2, {.read = true})},
           .check =
               [](MmuWorld& world) {
                 EXPECT_FALSE(world.Entry(1).IsWritable());
                 EXPECT_TRUE(world.Entry(0).IsWritable());
               },
           .preemptions = 1,
           .options = kFewEntries});
}

// --- Age, write-protect, protect
// ----------------------------------------------

TEST_F(TdpMmuVerbsInterleavingTest, AgeAgainstAZap) {
  Explore(
      {.prepare = SmallLeaves(3, true), .threads = {Ages(0, 3), Zaps(0, 3)}});
}

TEST_F(TdpMmuVerbsInterleavingTest, AgeAgainstATouch) {
  Explore({.prepare = SmallLeaves(2, false),
           .threads = {Ages(0, 3),
                       Sequence({Touches(1, false), Touches(1, true)})}});
}

TEST_F(TdpMmuVerbsInterleavingTest, AgeAgainstAZapAllAndATouch) {
  Explore({.prepare = SmallLeaves(2, true),
           .threads = {ZapsAll(), Ages(0, 2), Touches(1, true)},
           .preemptions = 1,
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, AWriteProtectAgainstAFastPageFault) {
  Explore({.prepare = SmallLeaves(3, false),
           .threads = {WriteProtects(0, 3), Touches(1, true)},
           .preemptions = 3});
}

// Written, protected, written again: the second write is noticed.
TEST_F(TdpMmuVerbsInterleavingTest, AWriteProtectAgainstWrites) {
  Explore({.prepare = SmallLeaves(3, true),
           .threads = {WriteProtects(0, 3),
                       Sequence({Touches(1, true), Touches(2, true)})}});
}

TEST_F(TdpMmuVerbsInterleavingTest, AWriteProtectAgainstAMapAndAZap) {
  Explore({.prepare = SmallLeaves(1, true),
           .threads = {WriteProtects(0, 3),
                       Sequence({Maps(0, 3, {.write = true}), Zaps(1, 2)})}});
}

TEST_F(TdpMmuVerbsInterleavingTest, AWriteProtectOfAHugeLeafAgainstAWrite) {
  Explore({.prepare = HugeLeaf(true),
           .threads = {WriteProtects(0, 3), Touches(1, true)},
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ALimitHoldsAgainstAWriteFault) {
  Explore(
      {.prepare = SmallLeaves(2, false),
       .threads = {Protects(1, 2, {.read = true}), TouchesIfAllowed(1, true)},
       .check =
           [](MmuWorld& world) {
             EXPECT_FALSE(world.Entry(1).IsWritable());
             EXPECT_EQ(world.Fault(1, true), FaultResult::kForbidden);
           },
       .preemptions = 3});
}

TEST_F(TdpMmuVerbsInterleavingTest, ALimitHoldsAgainstAFaultThatInstalls) {
  Explore(
      {.prepare = SmallLeaves(1, false),
       .threads = {Protects(1, 2, {.read = true}), TouchesIfAllowed(1, true)},
       .check =
           [](MmuWorld& world) {
             EXPECT_FALSE(world.Entry(1).IsWritable());
             EXPECT_EQ(world.Fault(1, true), FaultResult::kForbidden);
           },
       .preemptions = 3});
}

TEST_F(TdpMmuVerbsInterleavingTest, ALimitOfNothingHoldsAgainstAMap) {
  Explore({.prepare = SmallLeaves(2, true),
           .threads = {Protects(1, 2, {}),
                       [](MmuWorld& world) {
                         (void)world.Map(0, 3, {.write = true});
                       }},
           .check = [](MmuWorld& world) {
             EXPECT_FALSE(world.backings_.Find(Gfn(1))->At(Gfn(1)).present);
             EXPECT_EQ(world.Fault(1, false), FaultResult::kForbidden);
           }});
}

TEST_F(TdpMmuVerbsInterleavingTest, ALimitInAHugeLeafAgainstAWrite) {
  Explore(
      {.prepare = HugeLeaf(false),
       .threads = {Protects(1, 2, {.read = true}), TouchesIfAllowed(0, true)},
       .check =
           [](MmuWorld& world) { EXPECT_FALSE(world.Entry(1).IsWritable()); },
       .preemptions = 1,
       .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ALimitHoldsAgainstAZapAllAndAFault) {
  Explore(
      {.prepare = SmallLeaves(2, true),
       .threads = {Protects(1, 2, {.read = true}), ZapsAll(),
                   TouchesIfAllowed(1, true)},
       .check =
           [](MmuWorld& world) { EXPECT_FALSE(world.Entry(1).IsWritable()); },
       .preemptions = 1,
       .random_schedules = 3000,
       .options = kFewEntries});
}

// --- Batch -------------------------------------------------------------------

TEST_F(TdpMmuVerbsInterleavingTest, ABatchIsSeenWholeOrNotAtAll) {
  const auto look = [](MmuWorld& world) {
    for (const bool forwards : {true, false}) {
      Spte first;
      Spte third;
      if (forwards) first = world.Entry(0);
      third = world.Entry(2);
      if (!forwards) first = world.Entry(0);
      if (forwards && first.IsNonPresent()) {
        EXPECT_FALSE(third.IsPresent() && third.IsWritable());
      }
      if (!forwards && third.IsPresent() && !third.IsWritable()) {
        EXPECT_FALSE(first.IsPresent());
      }
    }
  };
  Explore({.prepare = SmallLeaves(3, true), .threads = {BatchesTwo(), look}});
}

TEST_F(TdpMmuVerbsInterleavingTest, ABatchAgainstFaults) {
  Explore({.prepare = SmallLeaves(3, true),
           .threads = {BatchesTwo(),
                       Sequence({Touches(0, true), Touches(2, true)})}});
}

TEST_F(TdpMmuVerbsInterleavingTest, ABatchAgainstAZapAndAMap) {
  Explore({.prepare = SmallLeaves(3, true),
           .threads = {BatchesTwo(), Sequence({Zaps(1, 3), Maps(0, 2)})}});
}

TEST_F(TdpMmuVerbsInterleavingTest, ABatchAgainstABatch) {
  Explore({.prepare = SmallLeaves(3, true),
           .threads = {BatchesTwo(),
                       Batches({{.kind = MmuOperation::Kind::kMap,
                                 .range = MmuWorld::Frames(0, 2),
                                 .write = true},
                                {.kind = MmuOperation::Kind::kZap,
                                 .range = MmuWorld::Frames(2, 3)}})}});
}

TEST_F(TdpMmuVerbsInterleavingTest, ABatchAgainstAZapAll) {
  Explore({.prepare = SmallLeaves(3, true),
           .threads = {BatchesTwo(), ZapsAll()},
           .preemptions = 1,
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ABatchAgainstACollapse) {
  Explore({.prepare = SmallLeaves(kBlock, true),
           .threads = {BatchesTwo(), Collapses()},
           .preemptions = 1,
           .random_schedules = 500,
           .options = kFewEntries});
}

TEST_F(TdpMmuVerbsInterleavingTest, ABatchInAHugeLeafAgainstAWrite) {
  Explore({.prepare = HugeLeaf(false),
           .threads = {BatchesTwo(), Touches(1, true)},
           .preemptions = 1,
           .options = kFewEntries});
}

// What was installed in the old root meanwhile is limited as well.
TEST_F(TdpMmuVerbsInterleavingTest, ABatchThatLimitsAgainstAFaultAndANewRoot) {
  const auto invalidate = [](MmuWorld& world) {
    EXPECT_TRUE(world.mmu().InvalidateRoots().ok());
  };
  Explore({.prepare =
               [](MmuWorld& world) {
                 world.AddSlot(0, 1);
                 world.StartScheduled();
               },
           .threads = {Batches({{.kind = MmuOperation::Kind::kProtect,
                                 .range = MmuWorld::Frames(0, 1),
                                 .access = {.read = true}}}),
                       Sequence({[](MmuWorld& world) {
                                   world.mmu().HandleFault(
                                       {.gfn = Gfn(0), .write = true});
                                 },
                                 invalidate})}});
}

// Whichever comes last stands, and the leaf is as it says.
TEST_F(TdpMmuVerbsInterleavingTest, TwoLimitsForOneFrame) {
  for (const Access before : {Access{}, Access{.read = true, .write = true}}) {
    const auto prepare = [before](MmuWorld& world) {
      SmallLeaves(1, true)(world);
      ASSERT_TRUE(world.mmu()
                      .ProtectRange(MmuWorld::Frames(0, 1), before, Never)
                      .status.ok());
    };
    for (const Access other : {Access{}, Access{.read = true}}) {
      Explore({.prepare = prepare,
               .threads = {Protects(0, 1, {.read = true, .write = true}),
                           Protects(0, 1, other)}});
    }
  }
}

TEST_F(TdpMmuVerbsInterleavingTest, ABatchThatLimitsAgainstAWriteFault) {
  Explore({.prepare = SmallLeaves(3, false),
           .threads = {Batches({{.kind = MmuOperation::Kind::kProtect,
                                 .range = MmuWorld::Frames(1, 2),
                                 .access = {.read = true}}}),
                       TouchesIfAllowed(1, true)},
           .check = [](MmuWorld& world) {
             if (world.note != 1) return;
             EXPECT_FALSE(world.Entry(1).IsWritable());
             EXPECT_EQ(world.Fault(1, true), FaultResult::kForbidden);
           }});
}

// As AFaultFromBeforeAZapInstallsNothing, for a zap in a batch.
TEST_F(TdpMmuVerbsInterleavingTest, AFaultFromBeforeABatchInstallsNothing) {
  const auto fault = [](MmuWorld& world) {
    const ChangeSequence::Snapshot seen = world.mmu().ReadSequence(Gfn(1));
    const bool before_batch = world.note == 0;
    world.mmu().HandleFault({.gfn = Gfn(1), .write = true, .sequence = seen});
    if (!before_batch) world.note = 2;
  };
  const auto batch = [](MmuWorld& world) {
    if (world.note == 0) world.note = 1;
    const MmuOperation zap = {.kind = MmuOperation::Kind::kZap,
                              .range = MmuWorld::Frames(0, 3)};
    EXPECT_TRUE(world.mmu().ApplyBatch({&zap, 1}).status.ok());
  };
  Explore({.prepare = SmallLeaves(1, true),
           .threads = {fault, batch},
           .check = [](MmuWorld& world) {
             if (world.note == 2) return;  // the fault came later
             EXPECT_FALSE(world.Entry(1).IsPresent());
           }});
}

// Everything at once.
TEST_F(TdpMmuVerbsInterleavingTest, FourThreadsAtRandom) {
  Explore({.prepare = SmallLeaves(kBlock, true),
           .threads = {Sequence({BatchesTwo(), Splits(), Maps(0, kBlock)}),
                       Sequence({Collapses(), Ages(0, 3), ZapsAll()}),
                       Sequence({WriteProtects(0, 3), Zaps(1, 2)}),
                       Sequence({Touches(1, true), Touches(2, false),
                                 Touches(1, true)})},
           .preemptions = 0,
           .random_schedules = 1500});
}

}  // namespace
}  // namespace tdp::testing
