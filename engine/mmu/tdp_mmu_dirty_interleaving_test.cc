// The dirty log against faults, in all interleavings with few preemptions: a
// frame that can be written without a fault is one whose write was noted.

#include <algorithm>
#include <vector>

#include "engine/testing/interleaving_fixture.h"

namespace tdp::testing {
namespace {

bool Never() { return false; }

class DirtyInterleavingTest : public InterleavingTest {
 protected:
  static constexpr uint64_t kBlock = MmuWorld::kBlock;
  static constexpr InterleaverOptions kFewEntries = {.max_entry_index = 3};

  static FakeBacking& Slot(MmuWorld& world) {
    return *world.backings_.Find(Gfn(0));
  }
  // A huge leaf, or small ones, that are mapped and not written.
  static MmuVerb Mapped(PageLevel level) {
    return [=](MmuWorld& world) {
      world.AddSlot(0, kBlock, PageLevel::k2M);
      world.StartScheduled();
      const uint64_t frames = level == PageLevel::k2M ? kBlock : 3;
      ASSERT_TRUE(world.Map(0, frames, {.max_level = level}).status.ok());
    };
  }
  static MmuVerb Empty() {
    return [](MmuWorld& world) {
      world.AddSlot(0, kBlock, PageLevel::k2M);
      world.StartScheduled();
    };
  }
  static MmuVerb StartsTracking() {
    return [](MmuWorld& world) {
      Slot(world).set_tracks_writes(true);
      const MmuProgress progress = world.mmu().WriteProtectRange(
          MmuWorld::Frames(0, kBlock), PageLevel::k4K, Never);
      EXPECT_TRUE(progress.status.ok()) << progress.status;
    };
  }
  static MmuVerb Batches() {
    return [](MmuWorld& world) {
      const MmuOperation map = {.kind = MmuOperation::Kind::kMap,
                                .range = MmuWorld::Frames(0, 3),
                                .write = true};
      (void)world.mmu().ApplyBatch({&map, 1});
    };
  }
  static void WritableMeansNoted(MmuWorld& world) {
    const std::vector<Gfn> written = Slot(world).TakeWritten();
    for (uint64_t gfn = 0; gfn < 4; ++gfn) {
      const bool noted =
          std::find(written.begin(), written.end(), Gfn(gfn)) != written.end();
      EXPECT_TRUE(noted || !Slot(world).Grants(Gfn(gfn), true)) << gfn;
    }
  }
};

TEST_F(DirtyInterleavingTest, TrackingAgainstAWriteToAHugeLeaf) {
  Explore({.prepare = Mapped(PageLevel::k2M),
           .threads = {StartsTracking(), Touches(1, true)},
           .check = WritableMeansNoted,
           .options = kFewEntries});
}

TEST_F(DirtyInterleavingTest, TrackingAgainstAWriteToASmallLeaf) {
  Explore({.prepare = Mapped(PageLevel::k4K),
           .threads = {StartsTracking(), Touches(1, true)},
           .check = WritableMeansNoted});
}

TEST_F(DirtyInterleavingTest, TrackingAgainstTheFirstTouch) {
  for (const bool write : {false, true}) {
    Explore({.prepare = Empty(),
             .threads = {StartsTracking(), Touches(1, write)},
             .check = WritableMeansNoted,
             .options = kFewEntries});
  }
}

TEST_F(DirtyInterleavingTest, TrackingAgainstAMap) {
  Explore({.prepare = Mapped(PageLevel::k4K),
           .threads = {StartsTracking(), Maps(0, 3, {.write = true})},
           .check = WritableMeansNoted});
}

TEST_F(DirtyInterleavingTest, TrackingAgainstABatchThatMaps) {
  Explore({.prepare = Mapped(PageLevel::k4K),
           .threads = {StartsTracking(), Batches()},
           .check = WritableMeansNoted});
}

}  // namespace
}  // namespace tdp::testing
