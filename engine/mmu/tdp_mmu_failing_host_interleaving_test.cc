// Verbs against each other in random schedules in which host calls fail, whole
// or half-way. Whatever remains: nobody sleeps for ever, nothing stays frozen,
// and the host grants no more than the entries do.

#include <utility>
#include <vector>

#include "engine/testing/interleaving_fixture.h"

namespace tdp::testing {
namespace {

class FailingHostInterleavingTest : public InterleavingTest {
 protected:
  static constexpr uint64_t kBlock = MmuWorld::kBlock;
  static constexpr Access kReadWrite = {.read = true, .write = true};

  static MmuVerb Prepare(PageLevel max_fault_level, uint64_t mapped) {
    return [=](MmuWorld& world) {
      world.AddSlot(0, kBlock, max_fault_level);
      world.StartScheduled(/*fail_one_in=*/3);
      if (mapped != 0) {
        ASSERT_TRUE(
            world.Map(0, mapped, {.max_level = PageLevel::k4K}).status.ok());
      }
    };
  }
  static bool Never() { return false; }

  static MmuVerb TriesToTouch(uint64_t gfn, bool write) {
    return [=](MmuWorld& world) {
      const TouchResult result = world.Touch(gfn, write);
      EXPECT_TRUE(result == TouchResult::kDone ||
                  result == TouchResult::kFailed ||
                  result == TouchResult::kForbidden);
    };
  }
  static MmuVerb TriesToZap(uint64_t start, uint64_t end) {
    return [=](MmuWorld& world) { (void)world.Zap(start, end); };
  }
  static MmuVerb TriesToMap(uint64_t start, uint64_t end, MapOptions options) {
    return [=](MmuWorld& world) { (void)world.Map(start, end, options); };
  }
  static MmuVerb TriesToZapAll() {
    return [](MmuWorld& world) {
      EXPECT_TRUE(world.mmu().InvalidateRoots().ok());
      (void)world.mmu().ZapInvalidatedRoots();
    };
  }
  static MmuVerb TriesToWriteProtect(uint64_t start, uint64_t end) {
    return [=](MmuWorld& world) {
      (void)world.mmu().WriteProtectRange(MmuWorld::Frames(start, end),
                                          PageLevel::k4K, Never);
    };
  }
  // If it is told that the limit holds, it does.
  static MmuVerb TriesToLimit(uint64_t gfn) {
    return [=](MmuWorld& world) {
      const MmuProgress progress = world.mmu().ProtectRange(
          MmuWorld::Frames(gfn, gfn + 1), {.read = true}, Never);
      if (!progress.status.ok()) return;
      EXPECT_FALSE(world.backings_.Find(Gfn(gfn))->At(Gfn(gfn)).writable);
    };
  }
  static MmuVerb TriesToSetLimit(uint64_t gfn, Access limit) {
    return [=](MmuWorld& world) {
      (void)world.mmu().ProtectRange(MmuWorld::Frames(gfn, gfn + 1), limit,
                                     Never);
    };
  }
  static MmuVerb TriesToAge(uint64_t start, uint64_t end) {
    return [=](MmuWorld& world) {
      (void)world.mmu().AgeRange(MmuWorld::Frames(start, end),
                                 /*test_only=*/false, Never, [](GfnRange) {});
    };
  }
  static MmuVerb TriesToBatch() {
    return [](MmuWorld& world) {
      const std::vector<MmuOperation> operations = {
          {.kind = MmuOperation::Kind::kZap, .range = MmuWorld::Frames(0, 1)},
          {.kind = MmuOperation::Kind::kMap,
           .range = MmuWorld::Frames(1, 3),
           .write = true}};
      (void)world.mmu().ApplyBatch(operations);
    };
  }
  static MmuVerb SplitsAndCollapses() {
    return [](MmuWorld& world) {
      const GfnRange block = MmuWorld::Frames(0, kBlock);
      (void)world.mmu().SplitHugePages(block, PageLevel::k4K, Never);
      (void)world.mmu().CollapseHugePages(block, PageLevel::k2M, Never);
    };
  }

  void ExploreAtRandom(MmuVerb prepare, std::vector<MmuVerb> threads) {
    Explore({.prepare = std::move(prepare),
             .threads = std::move(threads),
             .preemptions = 0,
             .random_schedules = 2000});
  }
};

TEST_F(FailingHostInterleavingTest, FaultsMapsAndZaps) {
  ExploreAtRandom(Prepare(PageLevel::k4K, 2),
                  {TriesToTouch(1, true), TriesToZap(0, 3),
                   TriesToMap(0, 3, {.write = true})});
}

TEST_F(FailingHostInterleavingTest, FaultsOfOneFrame) {
  ExploreAtRandom(
      Prepare(PageLevel::k4K, 2),
      {TriesToTouch(1, true), TriesToTouch(1, true), TriesToTouch(1, false)});
}

TEST_F(FailingHostInterleavingTest, HugeFaultsMapsAndZaps) {
  ExploreAtRandom(
      Prepare(PageLevel::k2M, 0),
      {TriesToTouch(1, true), TriesToZap(0, 3), TriesToMap(0, kBlock, {})});
}

TEST_F(FailingHostInterleavingTest, AZapAllAgainstFaults) {
  ExploreAtRandom(
      Prepare(PageLevel::k4K, 3),
      {TriesToZapAll(), TriesToTouch(1, true), TriesToTouch(2, false)});
}

TEST_F(FailingHostInterleavingTest, WriteProtectsAgainstWrites) {
  ExploreAtRandom(Prepare(PageLevel::k4K, 3),
                  {TriesToWriteProtect(0, 3), TriesToTouch(1, true),
                   TriesToTouch(2, true)});
}

TEST_F(FailingHostInterleavingTest, ALimitAgainstWritesAndAZapAll) {
  ExploreAtRandom(Prepare(PageLevel::k4K, 3),
                  {TriesToLimit(1), TriesToTouch(1, true), TriesToZapAll()});
}

TEST_F(FailingHostInterleavingTest, LimitsOfOneFrameAgainstEachOther) {
  ExploreAtRandom(Prepare(PageLevel::k4K, 3),
                  {TriesToSetLimit(1, {}), TriesToSetLimit(1, kReadWrite),
                   TriesToTouch(1, true)});
}

// A batch that fails withdraws its limit from what was installed under it.
TEST_F(FailingHostInterleavingTest, ABatchThatLiftsALimitAgainstAWrite) {
  const auto prepare = [](MmuWorld& world) {
    world.AddSlot(0, kBlock);
    world.StartScheduled(/*fail_one_in=*/3);
    (void)world.Map(1, 2, {.max_level = PageLevel::k4K});
    (void)world.mmu().ProtectRange(MmuWorld::Frames(0, 1), {}, Never);
  };
  const auto batch = [](MmuWorld& world) {
    const std::vector<MmuOperation> operations = {
        {.kind = MmuOperation::Kind::kProtect,
         .range = MmuWorld::Frames(0, 1),
         .access = kReadWrite},
        {.kind = MmuOperation::Kind::kZap, .range = MmuWorld::Frames(1, 2)}};
    (void)world.mmu().ApplyBatch(operations);
  };
  ExploreAtRandom(prepare, {batch, TriesToTouch(0, true)});
}

TEST_F(FailingHostInterleavingTest, AgeingAgainstWrites) {
  ExploreAtRandom(
      Prepare(PageLevel::k4K, 3),
      {TriesToAge(0, 3), TriesToTouch(1, true), TriesToTouch(2, false)});
}

TEST_F(FailingHostInterleavingTest, ABatchAgainstWritesAndZaps) {
  ExploreAtRandom(Prepare(PageLevel::k4K, 3),
                  {TriesToBatch(), TriesToTouch(1, true), TriesToZap(0, 3)});
}

TEST_F(FailingHostInterleavingTest, SplitsAndCollapsesAgainstWritesAndZaps) {
  ExploreAtRandom(
      Prepare(PageLevel::k2M, kBlock),
      {SplitsAndCollapses(), TriesToTouch(1, true), TriesToZap(1, 2)});
}

}  // namespace
}  // namespace tdp::testing
