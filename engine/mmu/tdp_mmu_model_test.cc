// Random sequences of verbs, each checked against a flat model.

#include <algorithm>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/testing/mmu_fixture.h"

namespace tdp::testing {
namespace {

// What the model knows of a frame: whether it is mapped, and writable.
struct ModelFrame {
  bool mapped = false;
  bool writable = false;
};

class TdpMmuModelTest : public TdpMmuTest {
 protected:
  static constexpr uint64_t kFrames = 5 * kBlock;

  void SetUp() override {
    // In one 2M block: the end of the first, all of the second, the start of
    // the third memslot. Then a hole.
    AddSlot(10, kBlock + 90, PageLevel::k2M);
    AddSlot(kBlock + 100, 50, PageLevel::k4K, /*writable=*/false);
    AddSlot(kBlock + 150, 3 * kBlock, PageLevel::k2M);
    Start();
    model_.resize(kFrames);
  }

  // Leaves may be huge: a verb on one frame acts on the leaf that holds it.
  GfnRange LeafOf(uint64_t gfn) {
    const WalkedEntry entry = Last(gfn);
    return {entry.gfn, entry.gfn + FramesPerEntry(entry.level)};
  }

  void ModelMap(uint64_t start, uint64_t end, bool write) {
    for (uint64_t gfn = start; gfn < end; ++gfn) {
      ModelFrame& frame = model_[gfn];
      const bool writable = write && backings_.Find(Gfn(gfn))->writable();
      frame.writable = frame.writable || writable;
      frame.mapped = true;
    }
  }

  bool Backed(uint64_t start, uint64_t end) {
    for (uint64_t gfn = start; gfn < end; ++gfn) {
      if (backings_.Find(Gfn(gfn)) == nullptr) return false;
    }
    return true;
  }

  void CheckFrame(uint64_t gfn) {
    const WalkedEntry entry = Last(gfn);
    const bool mapped = entry.spte.IsLeaf(entry.level);
    ASSERT_EQ(mapped, model_[gfn].mapped) << gfn;
    ASSERT_EQ(mapped && entry.spte.IsWritable(), model_[gfn].writable) << gfn;
    const FakeBacking* slot = backings_.Find(Gfn(gfn));
    if (slot == nullptr) return;
    ASSERT_EQ(slot->At(Gfn(gfn)).present, model_[gfn].mapped) << gfn;
    ASSERT_EQ(slot->At(Gfn(gfn)).writable, model_[gfn].writable) << gfn;
  }

  std::vector<ModelFrame> model_;
};

TEST_F(TdpMmuModelTest, TwentyThousandRandomVerbsAgreeWithTheModel) {
  constexpr uint64_t kSeed = 314159;
  constexpr int kVerbs = 20'000;
  std::mt19937_64 random(kSeed);
  for (int i = 0; i < kVerbs && !HasFatalFailure(); ++i) {
    SCOPED_TRACE(absl::StrCat("seed ", kSeed, ", verb ", i));
    const uint64_t start = random() % kFrames;
    const uint64_t length =
        random() % 4 == 0 ? 1 + random() % (2 * kBlock) : 1 + random() % 40;
    const uint64_t end = std::min(kFrames, start + length);
    const bool write = random() % 2 == 0;
    const uint64_t verb = random() % 1000;
    if (verb < 400) {
      const FaultResult result = Fault(start, write);
      FakeBacking* slot = backings_.Find(Gfn(start));
      const ModelFrame before = model_[start];
      if (slot == nullptr) {
        ASSERT_EQ(result, FaultResult::kUnbacked);
      } else if (write && !slot->writable()) {
        ASSERT_EQ(result, FaultResult::kForbidden);
      } else if (!before.mapped) {
        ASSERT_EQ(result, FaultResult::kFixed);
        const GfnRange leaf = LeafOf(start);
        ASSERT_TRUE(slot->range().Contains(leaf));
        ModelMap(leaf.start.value(), leaf.end.value(), true);
      } else if (write && !before.writable) {
        ASSERT_EQ(result, FaultResult::kWriteProtected);
        const GfnRange leaf = LeafOf(start);
        ModelMap(leaf.start.value(), leaf.end.value(), true);
      } else {
        ASSERT_EQ(result, FaultResult::kSpurious);
      }
    } else if (verb < 700) {
      const MapOptions options = {
          .max_level = random() % 2 == 0 ? PageLevel::k4K : PageLevel::k2M,
          .write = write};
      // A partly covered huge leaf is made writable as a whole.
      const GfnRange first = LeafOf(start);
      const GfnRange last = LeafOf(end - 1);
      const bool first_mapped = model_[start].mapped;
      const bool last_mapped = model_[end - 1].mapped;
      const MmuProgress progress = Map(start, end, options);
      if (!Backed(start, end)) {
        ASSERT_FALSE(progress.status.ok());
        ASSERT_EQ(progress.changed_frames, 0);
      } else {
        ASSERT_TRUE(progress.status.ok()) << progress.status;
        int64_t unmapped = 0;
        for (uint64_t gfn = start; gfn < end; ++gfn) {
          unmapped += model_[gfn].mapped ? 0 : 1;
        }
        ASSERT_EQ(progress.changed_frames, unmapped);
        ModelMap(start, end, write);
        if (first_mapped && write) {
          ModelMap(first.start.value(), first.end.value(), true);
        }
        if (last_mapped && write) {
          ModelMap(last.start.value(), last.end.value(), true);
        }
      }
    } else if (verb < 990) {
      uint64_t from = start;
      uint64_t to = end;
      if (model_[start].mapped) from = LeafOf(start).start.value();
      if (model_[end - 1].mapped) to = LeafOf(end - 1).end.value();
      int64_t mapped = 0;
      for (uint64_t gfn = from; gfn < to; ++gfn) {
        mapped += model_[gfn].mapped ? 1 : 0;
        model_[gfn] = {};
      }
      const MmuProgress progress = Zap(start, end);
      ASSERT_TRUE(progress.status.ok());
      ASSERT_EQ(progress.changed_frames, mapped);
    } else {
      ZapAll();
      model_.assign(kFrames, {});
    }
    for (uint64_t gfn = start; gfn < end; ++gfn) CheckFrame(gfn);
    if (i % 1000 == 0) {
      for (uint64_t gfn = 0; gfn < kFrames; ++gfn) CheckFrame(gfn);
      ASSERT_TRUE(Audit().empty());
      ExpectConsistent(HostMustBe::kEqual);
    }
  }
}

}  // namespace
}  // namespace tdp::testing
