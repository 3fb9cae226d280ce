// Verbs against each other, in all interleavings with few preemptions.

#include "engine/testing/interleaving_fixture.h"

namespace tdp::testing {
namespace {

class TdpMmuInterleavingTest : public InterleavingTest {
 protected:
  static constexpr uint64_t kBlock = MmuWorld::kBlock;

  // A block of small frames, of which `mapped` are mapped.
  static MmuVerb Block(uint64_t mapped, MapOptions options = {.write = true}) {
    return [=](MmuWorld& world) {
      world.AddSlot(0, kBlock);
      world.StartScheduled();
      if (mapped != 0) {
        ASSERT_TRUE(world.Map(0, mapped, options).status.ok());
      }
    };
  }
  // The same with a table but no leaf.
  static MmuVerb BlockWithEmptyTable() {
    return [](MmuWorld& world) {
      Block(1)(world);
      ASSERT_TRUE(world.Zap(0, kBlock).status.ok());
    };
  }
};

TEST_F(TdpMmuInterleavingTest, MapsOfTheSameFramesMapEachOnce) {
  const auto map = [](MmuWorld& world) {
    const MmuProgress progress = world.MapWritable(0, 3);
    EXPECT_TRUE(progress.status.ok()) << progress.status;
    world.note += static_cast<int>(progress.changed_frames);
  };
  Explore({.prepare = Block(0),
           .threads = {map, map},
           .check = [](MmuWorld& world) {
             EXPECT_EQ(world.note, 3);
             EXPECT_EQ(world.Leaves(PageLevel::k4K), 3);
           }});
}

TEST_F(TdpMmuInterleavingTest, AMapAgainstAZap) {
  Explore({.prepare = Block(1), .threads = {Maps(0, 3), Zaps(0, 3)}});
}

TEST_F(TdpMmuInterleavingTest, ZapsOfTheSameFramesRemoveEachOnce) {
  const auto zap = [](MmuWorld& world) {
    world.note += static_cast<int>(world.Zap(0, 3).changed_frames);
  };
  Explore({.prepare = Block(3),
           .threads = {zap, zap},
           .check = [](MmuWorld& world) { EXPECT_EQ(world.note, 3); }});
}

TEST_F(TdpMmuInterleavingTest, FaultsOnOneFrame) {
  Explore(
      {.prepare = Block(0), .threads = {Touches(1, true), Touches(1, false)}});
}

TEST_F(TdpMmuInterleavingTest, FaultsOfThreeVcpus) {
  Explore({.prepare = Block(0, {}),
           .threads = {Touches(1, true), Touches(1, false), Touches(2, true)},
           .preemptions = 1,
           .random_schedules = 3000});
}

TEST_F(TdpMmuInterleavingTest, AFaultAgainstAZap) {
  Explore({.prepare = Block(2), .threads = {Touches(1, true), Zaps(0, 3)}});
}

TEST_F(TdpMmuInterleavingTest, AWriteToAReadOnlyFrameAgainstAZap) {
  Explore({.prepare = Block(2, {.write = false}),
           .threads = {Touches(1, true), Zaps(0, 3)}});
}

TEST_F(TdpMmuInterleavingTest, AWriteToAReadOnlyFrameAgainstAMap) {
  Explore({.prepare = Block(2, {.write = false}),
           .threads = {Touches(1, true), Maps(0, 3, {.write = true})}});
}

// The frame changed after the fault had found out about it: it is not
// installed, whatever the order of the rest.
TEST_F(TdpMmuInterleavingTest, AFaultFromBeforeAZapInstallsNothing) {
  const auto fault = [](MmuWorld& world) {
    const ChangeSequence::Snapshot seen = world.mmu().ReadSequence(Gfn(1));
    const bool before_zap = world.note == 0;
    world.mmu().HandleFault({.gfn = Gfn(1), .write = true, .sequence = seen});
    if (!before_zap) world.note = 2;
  };
  const auto zap = [](MmuWorld& world) {
    if (world.note == 0) world.note = 1;
    EXPECT_TRUE(world.Zap(0, 3).status.ok());
  };
  Explore({.prepare = Block(0),
           .threads = {fault, zap},
           .check =
               [](MmuWorld& world) {
                 if (world.note == 2) return;  // the fault came later
                 EXPECT_FALSE(world.Entry(1).IsPresent());
               },
           .preemptions = 3});
}

TEST_F(TdpMmuInterleavingTest, AHugeLeafOverAnEmptyTableAgainstAFaultInIt) {
  Explore({.prepare = BlockWithEmptyTable(),
           .threads = {Maps(0, kBlock, {.write = true}), Touches(1, true)}});
}

TEST_F(TdpMmuInterleavingTest, AZapAndATableRemovalAgainstAFault) {
  Explore({.prepare = Block(1),
           .threads = {Sequence({Zaps(0, kBlock), Maps(0, kBlock)}),
                       Touches(1, true)}});
}

// The huge fault meets a small leaf that is just installed, and gives the
// table back; the third vCPU has met the FROZEN parent and sleeps.
TEST_F(TdpMmuInterleavingTest, AHugeFaultThatMeetsASmallLeafWakesTheSleeper) {
  const auto prepare = [](MmuWorld& world) {
    world.AddSlot(0, kBlock, PageLevel::k2M);
    world.StartScheduled();
    ASSERT_TRUE(world.Map(0, 1, {.max_level = PageLevel::k4K}).status.ok());
    ASSERT_TRUE(world.Zap(0, 1).status.ok());
  };
  Explore({.prepare = prepare,
           .threads = {Touches(0, true), Touches(1, true),
                       Maps(2, 3, {.max_level = PageLevel::k4K})},
           .preemptions = 1,
           .random_schedules = 4000,
           .options = {.max_entry_index = 3, .disturb = false}});
}

TEST_F(TdpMmuInterleavingTest, HugeFaultsAgainstAZapOfTheirBlock) {
  const auto prepare = [](MmuWorld& world) {
    world.AddSlot(0, kBlock, PageLevel::k2M);
    world.StartScheduled();
  };
  Explore({.prepare = prepare,
           .threads = {Touches(0, true), Zaps(0, 2)},
           .options = {.max_entry_index = 2}});
}

TEST_F(TdpMmuInterleavingTest, AZapAllAgainstAFaultOnAFrameOfTheOldRoot) {
  Explore({.prepare = Block(2),
           .threads = {ZapsAll(), Touches(1, true)},
           .options = {.max_entry_index = 3}});
}

TEST_F(TdpMmuInterleavingTest, AZapAllAgainstAFaultOnAReadOnlyFrame) {
  Explore({.prepare = Block(2, {.write = false}),
           .threads = {ZapsAll(), Touches(1, true)},
           .preemptions = 1,
           .options = {.max_entry_index = 3}});
}

// The root is invalid already, so that the first steps count.
TEST_F(TdpMmuInterleavingTest, AFaultOnAFrameOfARootThatIsBeingZapped) {
  const auto prepare = [](MmuWorld& world) {
    Block(2)(world);
    ASSERT_TRUE(world.mmu().InvalidateRoots().ok());
  };
  const auto zap = [](MmuWorld& world) {
    EXPECT_TRUE(world.mmu().ZapInvalidatedRoots().ok());
  };
  Explore({.prepare = prepare,
           .threads = {zap, Touches(1, true)},
           .check =
               [](MmuWorld& world) {
                 EXPECT_EQ(world.mmu().invalid_root_count(), 0u);
               },
           .options = {.max_entry_index = 3}});
}

TEST_F(TdpMmuInterleavingTest, ZapAllAgainstMap) {
  Explore({.prepare = Block(1),
           .threads = {ZapsAll(), Maps(0, 2)},
           .preemptions = 1,
           .options = {.max_entry_index = 3}});
}

TEST_F(TdpMmuInterleavingTest, AZapAllAgainstAZap) {
  const auto zap = [](MmuWorld& world) {
    const MmuProgress progress = world.Zap(0, 2);
    EXPECT_TRUE(progress.status.ok()) << progress.status;
    // Whoever removes them, they are gone.
    EXPECT_FALSE(world.backings_.Find(Gfn(1))->At(Gfn(1)).present);
  };
  Explore({.prepare = Block(2),
           .threads = {ZapsAll(), zap},
           .options = {.max_entry_index = 3}});
}

TEST_F(TdpMmuInterleavingTest, TwoZapAlls) {
  Explore({.prepare = Block(2),
           .threads = {ZapsAll(), ZapsAll()},
           .preemptions = 1,
           .options = {.max_entry_index = 2}});
}

TEST_F(TdpMmuInterleavingTest, AWalkAgainstTheRemovalOfWhatItWalks) {
  Explore({.prepare = Block(2),
           .threads = {ZapsAll(), Walks(0, 3)},
           .options = {.max_entry_index = 3}});
}

TEST_F(TdpMmuInterleavingTest, AWalkAgainstAHugeLeafOverItsTable) {
  Explore({.prepare = BlockWithEmptyTable(),
           .threads = {Maps(0, kBlock), Walks(0, 3)}});
}

TEST_F(TdpMmuInterleavingTest, AnAuditAgainstAFaultAndAZap) {
  Explore({.prepare = Block(1),
           .threads = {Audits(), Sequence({Touches(1, true), Zaps(0, 2)})},
           .preemptions = 1,
           .options = {.max_entry_index = 2}});
}

// An entry that is not present decides in the valid root only: one that looks
// the same in an old root is not the one to own.
TEST_F(TdpMmuInterleavingTest, AnAuditAgainstANewRootAndAFaultInIt) {
  const auto prepare = [](MmuWorld& world) {
    world.AddSlot(0, 1);
    world.StartScheduled();
    ASSERT_TRUE(world.mmu().InvalidateRoots().ok());
    ASSERT_TRUE(world.MapWritable(0, 1).status.ok());
  };
  const auto invalidate = [](MmuWorld& world) {
    EXPECT_TRUE(world.mmu().InvalidateRoots().ok());
  };
  Explore({.prepare = prepare,
           .threads = {Audits(),
                       Sequence({Zaps(0, 1), invalidate, Touches(0, true)})},
           .check =
               [](MmuWorld& world) {
                 EXPECT_TRUE(world.mmu().ZapInvalidatedRoots().ok());
               },
           .preemptions = 3,
           .options = {.max_entry_index = 1}});
}

}  // namespace
}  // namespace tdp::testing
