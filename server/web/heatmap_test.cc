#include "server/web/heatmap.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/vm/vm_registry.h"
#include "gtest/gtest.h"
#include "server/testing/errors.h"
#include "server/testing/fake_vm_registry.h"

namespace tdp::server {
namespace {

const HeatmapBudget kAmple = {.max_leaves = size_t{1} << 30,
                              .time = absl::InfiniteDuration()};

GfnRange Frames(uint64_t start, uint64_t end) { return {Gfn(start), Gfn(end)}; }

uint8_t At(const Heatmap& heatmap, size_t cell, HeatLayer layer) {
  return static_cast<uint8_t>(
      heatmap.cells[cell * kHeatLayerCount + static_cast<size_t>(layer)]);
}

// A frame, one flag for each layer, found out on its own.
using FrameFlags = std::vector<bool>;

FrameFlags FlagsOf(const Vm& vm, Gfn gfn) {
  FrameFlags flags(kHeatLayerCount);
  const auto path = vm.WalkGfn(gfn);
  EXPECT_TRUE(path.ok()) << path.status();
  const SpteView& last = path->back();
  if (last.present && last.leaf) {
    flags[0] = last.level == PageLevel::k4K;
    flags[1] = last.level == PageLevel::k2M;
    flags[2] = last.level == PageLevel::k1G;
    flags[3] = last.dirty;
    flags[4] = last.accessed;
    flags[5] = !last.access.read || (last.host_writable && !last.access.write);
  }
  for (const WaitingAccess& access : vm.ListWaitingAccesses()) {
    if (access.gfn == gfn) flags[6] = true;
  }
  for (const MemslotInfo& slot : vm.ListMemslots()) {
    const uint64_t base = slot.config.base_gfn.value();
    const uint64_t count = static_cast<uint64_t>(slot.config.frame_count);
    if (gfn.value() >= base && gfn.value() - base < count) flags[7] = true;
  }
  return flags;
}

// What a cell of these frames must say.
std::string CellOf(const std::vector<FrameFlags>& frames) {
  std::string bytes;
  for (size_t layer = 0; layer < kHeatLayerCount; ++layer) {
    const auto count = static_cast<size_t>(std::count_if(
        frames.begin(), frames.end(),
        [layer](const FrameFlags& flags) { return flags[layer]; }));
    size_t share = count * 255 / frames.size();
    if (count > 0) share = std::max<size_t>(share, 1);
    if (layer == 6 && count > 0) share = 255;
    bytes += static_cast<char>(share);
  }
  return bytes;
}

// Looks up each frame by itself.
void ExpectAsFrameByFrame(const Vm& vm, GfnRange range, uint64_t max_cells) {
  const auto heatmap = MakeHeatmap(vm, range, max_cells, kAmple);
  ASSERT_TRUE(heatmap.ok()) << heatmap.status();
  EXPECT_EQ(heatmap->first_gfn, range.start);
  EXPECT_EQ(heatmap->next_gfn, range.end);
  ASSERT_EQ(heatmap->cells.size(), heatmap->cell_count * kHeatLayerCount);
  EXPECT_LE(heatmap->cell_count, max_cells);
  Gfn gfn = range.start;
  for (size_t cell = 0; cell < heatmap->cell_count; ++cell) {
    ASSERT_LT(gfn, range.end);
    std::vector<FrameFlags> frames;
    for (uint64_t i = 0; i < heatmap->frames_per_cell && gfn < range.end; ++i) {
      frames.push_back(FlagsOf(vm, gfn));
      gfn += 1;
    }
    EXPECT_EQ(heatmap->cells.substr(cell * kHeatLayerCount, kHeatLayerCount),
              CellOf(frames))
        << "cell " << cell << " of " << heatmap->cell_count << " from "
        << range.start.value() << " to " << range.end.value();
  }
  EXPECT_EQ(gfn, range.end) << "cells are missing";
}

TEST(HeatmapTest, CutsARangeIntoCellsOfTheLeastPowerOfTwo) {
  FakeVmRegistry registry;
  const auto vm = registry.MakeVmForTest("a");
  const struct {
    uint64_t frames, max_cells, per_cell, cells;
  } kCases[] = {
      {1, 1, 1, 1},
      {1, 16384, 1, 1},
      {16384, 16384, 1, 16384},
      {16385, 16384, 2, 8193},
      {5, 3, 2, 3},
      {6, 3, 2, 3},
      {7, 3, 4, 2},
      {uint64_t{1} << 27, 1, uint64_t{1} << 27, 1},
      {(uint64_t{1} << 27) - 1, 16384, 8192, 16384},
  };
  for (const auto& [frames, max_cells, per_cell, cells] : kCases) {
    SCOPED_TRACE(absl::StrCat(frames, " frames in ", max_cells));
    const auto heatmap = MakeHeatmap(*vm, Frames(0, frames), max_cells);
    ASSERT_TRUE(heatmap.ok()) << heatmap.status();
    EXPECT_EQ(heatmap->frames_per_cell, per_cell);
    EXPECT_EQ(heatmap->cell_count, cells);
    EXPECT_EQ(heatmap->cells.size(), cells * kHeatLayerCount);
    EXPECT_EQ(heatmap->next_gfn, Gfn(frames));
  }
  EXPECT_EQ(FieldErrorOf(MakeHeatmap(*vm, Frames(5, 5), 1).status()),
            "FIELD_INVALID frameCount");
  EXPECT_EQ(
      ReasonOf(MakeHeatmap(*vm, Frames(0, kMaxHeatmapFrames), 1).status()),
      "FIELD_INVALID");
}

TEST(HeatmapTest, SharesAreNothingOrAllOnlyWhereThatIsTrue) {
  FakeVmRegistry registry;
  const auto vm = registry.MakeVmForTest("a");
  constexpr uint64_t kFrames = 4096;
  MemslotConfig config;
  config.frame_count = kFrames;
  ASSERT_TRUE(vm->CreateMemslot("ram", config, false).ok());
  // One frame of the first cell, all but one of the third.
  ASSERT_TRUE(vm->MapRange(Frames(0, 1), 0, true, {}).ok());
  ASSERT_TRUE(vm->MapRange(Frames(2049, 3072), 0, true, {}).ok());
  ASSERT_TRUE(vm->MapRange(Frames(3072, kFrames), 0, true, {}).ok());
  vm->AddWaitingAccessForTest({.access_id = 1, .gfn = Gfn(kFrames - 1)});
  const auto heatmap = MakeHeatmap(*vm, Frames(0, kFrames + 1024), 5, kAmple);
  ASSERT_TRUE(heatmap.ok()) << heatmap.status();
  ASSERT_EQ(heatmap->frames_per_cell, 1024u);
  const std::vector<uint8_t> kMapped = {1, 0, 254, 255, 0};
  const std::vector<uint8_t> kWaiting = {0, 0, 0, 255, 0};
  const std::vector<uint8_t> kBacked = {255, 255, 255, 255, 0};
  for (size_t cell = 0; cell < 5; ++cell) {
    EXPECT_EQ(At(*heatmap, cell, HeatLayer::kMapped4K), kMapped[cell]) << cell;
    EXPECT_EQ(At(*heatmap, cell, HeatLayer::kYoung), kMapped[cell]) << cell;
    EXPECT_EQ(At(*heatmap, cell, HeatLayer::kMapped2M), 0) << cell;
    EXPECT_EQ(At(*heatmap, cell, HeatLayer::kWaiting), kWaiting[cell]) << cell;
    EXPECT_EQ(At(*heatmap, cell, HeatLayer::kBacked), kBacked[cell]) << cell;
  }
}

// Leaves of every level and kind, given to the fake.
class LeavesTest : public testing::Test {
 protected:
  LeavesTest() {
    vm_->SetWalkHookForTest(
        [this](GfnRange range, const WalkRangeOptions& options,
               size_t max_entries, std::vector<SpteView>& out) {
          EXPECT_TRUE(options.leaves_only && options.present_only);
          for (const auto& [base, leaf] : leaves_) {
            const Gfn end = base + FramesPerEntry(leaf.level);
            if (end <= range.start || base >= range.end) continue;
            if (out.size() == max_entries) return absl::StatusOr<Gfn>(base);
            out.push_back(leaf);
          }
          return absl::StatusOr<Gfn>(range.end);
        });
  }
  void AddLeaf(uint64_t base, PageLevel level, SpteView leaf) {
    leaf.base_gfn = Gfn(base);
    leaf.level = level;
    leaf.present = leaf.leaf = true;
    leaves_[leaf.base_gfn] = leaf;
  }
  Heatmap Make(GfnRange range, uint64_t cells, HeatmapBudget budget = kAmple) {
    const auto heatmap = MakeHeatmap(*vm_, range, cells, budget);
    EXPECT_TRUE(heatmap.ok()) << heatmap.status();
    return *heatmap;
  }
  // The bytes of one cell.
  std::vector<int> Cell(const Heatmap& heatmap, size_t cell) {
    std::vector<int> bytes;
    for (size_t i = 0; i < kHeatLayerCount; ++i) {
      bytes.push_back(At(heatmap, cell, static_cast<HeatLayer>(i)));
    }
    return bytes;
  }

  static constexpr SpteView kWritable = {.access = {true, true},
                                         .accessed = true,
                                         .dirty = true,
                                         .host_writable = true,
                                         .mmu_writable = true};
  FakeVmRegistry registry_;
  const std::shared_ptr<FakeVm> vm_ = registry_.MakeVmForTest("a");
  std::map<Gfn, SpteView> leaves_;
};

TEST_F(LeavesTest, CountsAHugeLeafOnItsLevelInEveryCellThatItCovers) {
  AddLeaf(512, PageLevel::k2M, kWritable);
  AddLeaf(uint64_t{1} << 18, PageLevel::k1G, kWritable);
  // From the middle of the 2M leaf on, in cells of single frames and of two.
  for (const uint64_t cells : {512, 256}) {
    const Heatmap heatmap = Make(Frames(768, 1280), cells);
    for (size_t i = 0; i < heatmap.cell_count; ++i) {
      const bool inside = i < heatmap.cell_count / 2;
      EXPECT_EQ(Cell(heatmap, i),
                inside ? std::vector<int>({0, 255, 0, 255, 255, 0, 0, 0})
                       : std::vector<int>(8, 0));
    }
  }
  const Heatmap gib = Make(Frames((1 << 18) + 5, (1 << 19) + 5), 1 << 8);
  EXPECT_EQ(gib.frames_per_cell, 1024u);
  EXPECT_EQ(At(gib, 0, HeatLayer::kMapped1G), 255);
  EXPECT_EQ(At(gib, 254, HeatLayer::kMapped1G), 255);
  EXPECT_EQ(At(gib, 255, HeatLayer::kMapped1G), 253) << "1019 of 1024";
  EXPECT_EQ(gib.leaf_count, 1u);
}

TEST_F(LeavesTest, TellsWhatALeafGrants) {
  SpteView leaf = kWritable;
  AddLeaf(0, PageLevel::k4K, leaf);
  leaf.access.write = false;  // write-protected, or limited
  AddLeaf(1, PageLevel::k4K, leaf);
  leaf.host_writable = leaf.mmu_writable = false;  // as the memslot is
  AddLeaf(2, PageLevel::k4K, leaf);
  leaf = {.dirty = true, .host_writable = true};  // no access, so no A
  AddLeaf(3, PageLevel::k4K, leaf);
  leaf = {.dirty = true};  // the same in a read-only memslot
  AddLeaf(4, PageLevel::k4K, leaf);
  leaf = kWritable;
  leaf.accessed = leaf.dirty = false;
  AddLeaf(5, PageLevel::k4K, leaf);
  const Heatmap heatmap = Make(Frames(0, 7), 7);
  EXPECT_EQ(Cell(heatmap, 0), std::vector<int>({255, 0, 0, 255, 255, 0, 0, 0}));
  EXPECT_EQ(Cell(heatmap, 1),
            std::vector<int>({255, 0, 0, 255, 255, 255, 0, 0}));
  EXPECT_EQ(Cell(heatmap, 2), std::vector<int>({255, 0, 0, 255, 255, 0, 0, 0}));
  EXPECT_EQ(Cell(heatmap, 3), std::vector<int>({255, 0, 0, 255, 0, 255, 0, 0}));
  EXPECT_EQ(Cell(heatmap, 4), std::vector<int>({255, 0, 0, 255, 0, 255, 0, 0}));
  EXPECT_EQ(Cell(heatmap, 5), std::vector<int>({255, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Cell(heatmap, 6), std::vector<int>(8, 0));
}

TEST_F(LeavesTest, EndsBetweenCellsWhenTheBudgetIsSpent) {
  for (uint64_t gfn = 0; gfn < 1000; ++gfn) {
    AddLeaf(gfn, PageLevel::k4K, kWritable);
  }
  vm_->AddWaitingAccessForTest({.access_id = 1, .gfn = Gfn(99)});
  vm_->AddWaitingAccessForTest({.access_id = 2, .gfn = Gfn(100)});
  HeatmapBudget budget = kAmple;
  budget.max_leaves = 100;
  // In cells of 16 frames the walk ends in the seventh.
  const Heatmap heatmap = Make(Frames(0, 1000), 63, budget);
  EXPECT_EQ(heatmap.frames_per_cell, 16u);
  EXPECT_EQ(heatmap.leaf_count, 100u);
  EXPECT_EQ(heatmap.next_gfn, Gfn(96));
  EXPECT_EQ(At(heatmap, 5, HeatLayer::kMapped4K), 255);
  EXPECT_EQ(Cell(heatmap, 6), std::vector<int>(8, 0)) << "it was not finished";
  EXPECT_EQ(heatmap.cells.size(), 63 * kHeatLayerCount);
  // A walk that ends where a cell ends has finished it.
  budget.max_leaves = 96;
  EXPECT_EQ(Make(Frames(0, 1000), 63, budget).next_gfn, Gfn(96));
}

TEST_F(LeavesTest, AsksOnlyOnceWhenTheTimeIsOver) {
  for (uint64_t gfn = 0; gfn < 5000; ++gfn) {
    AddLeaf(gfn, PageLevel::k4K, kWritable);
  }
  const Heatmap heatmap =
      Make(Frames(0, 5000), 5000,
           {.max_leaves = size_t{1} << 30, .time = absl::ZeroDuration()});
  EXPECT_EQ(heatmap.step_count, 1u);
  EXPECT_EQ(heatmap.next_gfn, Gfn(4096));
}

TEST_F(LeavesTest, GoesOnInsideOfACellThatIsTooLargeForTheBudget) {
  for (uint64_t gfn = 0; gfn < 1000; ++gfn) {
    AddLeaf(gfn, PageLevel::k4K, kWritable);
  }
  HeatmapBudget budget = kAmple;
  budget.max_leaves = 256;
  Gfn next(0);
  std::vector<int> shares;
  while (next < Gfn(1024)) {
    const Heatmap heatmap = Make({next, Gfn(1024)}, 1, budget);
    ASSERT_GT(heatmap.next_gfn, next);
    shares.push_back(At(heatmap, 0, HeatLayer::kMapped4K));
    next = heatmap.next_gfn;
  }
  EXPECT_EQ(shares, std::vector<int>({63, 85, 127, 231}))
      << "256 of 1024, 256 of 768, 256 of 512, 232 of 256";
}

// The real tables, with everything that a server can do to them.
class HeatmapEngineTest : public testing::Test {
 protected:
  void SetUp() override {
    VmRegistryOptions options;
    options.hypervisor = HypervisorKind::kSoftware;
    auto registry = VmRegistry::Create(options);
    ASSERT_TRUE(registry.ok()) << registry.status();
    registry_ = *std::move(registry);
    VmConfig config;
    config.vcpu_count = 1;
    ASSERT_TRUE(registry_->CreateVm("a", config, false).ok());
    vm_ = *registry_->FindVm("a");
  }
  void TearDown() override {
    vm_.reset();
    registry_.reset();
  }
  void AddMemslot(const std::string& id, uint64_t base, int64_t frames,
                  bool read_only = false) {
    MemslotConfig config;
    config.base_gfn = Gfn(base);
    config.frame_count = frames;
    config.read_only = read_only;
    const auto made = vm_->CreateMemslot(id, config, false);
    ASSERT_TRUE(made.ok()) << made.status();
  }

  std::unique_ptr<VmRegistry> registry_;
  std::shared_ptr<Vm> vm_;
};

TEST_F(HeatmapEngineTest, EqualsWhatSingleWalksSayAfterRandomChanges) {
  // With room for two leaves of 2M.
  AddMemslot("low", 16, 1600);
  AddMemslot("rom", 1700, 100, /*read_only=*/true);
  AddMemslot("high", 1800, 500);
  std::mt19937 random(20240601);
  const auto below = [&random](uint64_t end) {
    return std::uniform_int_distribution<uint64_t>(0, end - 1)(random);
  };
  const WorkBudget budget = {.time = absl::InfiniteDuration()};
  ASSERT_TRUE(vm_->MapRange(Frames(16, 1616), 2, true, budget).ok());
  const auto mapped = MakeHeatmap(*vm_, Frames(512, 1536), 2);
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  EXPECT_EQ(mapped->leaf_count, 2u);
  EXPECT_EQ(At(*mapped, 1, HeatLayer::kMapped2M), 255);
  ExpectAsFrameByFrame(*vm_, Frames(700, 1700), 100);
  const GfnRange kSlots[] = {Frames(16, 1616), Frames(1700, 1800),
                             Frames(1800, 2300)};
  for (int round = 0; round < 150; ++round) {
    const size_t which = below(3);
    const GfnRange slot = kSlots[which];
    const Gfn start = slot.start + below(slot.size());
    const GfnRange range = {start, start + 1 + below(slot.end - start)};
    absl::Status status;
    switch (below(6)) {
      case 0:
      case 1:
        status = vm_->MapRange(range, static_cast<int>(below(3)),
                               which != 1 && below(2) == 0, budget)
                     .status();
        break;
      case 2:
        status = vm_->ZapRange(range, budget).status();
        break;
      case 3: {
        const Access kAccesses[] = {{}, {true, false}, {true, true}};
        status = vm_->ProtectRange(range, kAccesses[below(3)], budget).status();
        break;
      }
      case 4:
        status = vm_->WriteProtectRange(range, 0, budget).status();
        break;
      case 5:
        status = vm_->AgeRange(range, {}, budget).status();
        break;
    }
    ASSERT_TRUE(status.ok()) << status;
    if (round % 10 != 9) continue;
    const uint64_t first = below(2400);
    ExpectAsFrameByFrame(*vm_, Frames(first, first + 1 + below(2400)),
                         1 + below(300));
  }
  ExpectAsFrameByFrame(*vm_, Frames(0, 2400), 16384);
  ExpectAsFrameByFrame(*vm_, Frames(16, 17), 1);
  ExpectAsFrameByFrame(*vm_, Frames(2299, 2301), 2);
}

TEST_F(HeatmapEngineTest, TellsOfARangeInPiecesAsInOne) {
  AddMemslot("ram", 0, 20000);
  ASSERT_TRUE(vm_->MapRange(Frames(3, 19000), /*max_level=*/1, true,
                            {.time = absl::InfiniteDuration()})
                  .ok());
  const auto whole = MakeHeatmap(*vm_, Frames(0, 20000), 1250, kAmple);
  ASSERT_TRUE(whole.ok()) << whole.status();
  ASSERT_EQ(whole->frames_per_cell, 16u);
  HeatmapBudget budget = kAmple;
  budget.max_leaves = 1000;
  std::string cells;
  Gfn next(0);
  int pieces = 0;
  while (next < Gfn(20000)) {
    const uint64_t rest = (Gfn(20000) - next) / 16;
    const auto piece = MakeHeatmap(*vm_, {next, Gfn(20000)}, rest, budget);
    ASSERT_TRUE(piece.ok()) << piece.status();
    ASSERT_EQ(piece->frames_per_cell, 16u);
    EXPECT_LE(piece->leaf_count, 1000u);
    ASSERT_GT(piece->next_gfn, next);
    cells +=
        piece->cells.substr(0, (piece->next_gfn - next) / 16 * kHeatLayerCount);
    next = piece->next_gfn;
    ++pieces;
  }
  EXPECT_EQ(cells, whole->cells);
  EXPECT_GT(pieces, 10);
}

TEST_F(HeatmapEngineTest, PassesOverSparseMemoryInFewSteps) {
  constexpr uint64_t kGib = uint64_t{1} << 18;
  constexpr uint64_t kFrames = 64 * kGib;
  AddMemslot("ram", 0, static_cast<int64_t>(kFrames));
  const auto empty = MakeHeatmap(*vm_, Frames(0, kFrames), kMaxHeatmapCells);
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_EQ(empty->leaf_count, 0u);
  EXPECT_EQ(empty->step_count, 1u);
  EXPECT_EQ(empty->next_gfn, Gfn(kFrames));
  EXPECT_EQ(empty->cell_count, kMaxHeatmapCells);
  EXPECT_EQ(At(*empty, kMaxHeatmapCells - 1, HeatLayer::kBacked), 255);

  // A page of every GiB: its tables have 65,536 entries.
  for (uint64_t gib = 0; gib < 64; ++gib) {
    const Gfn gfn(gib * kGib + 77);
    ASSERT_TRUE(vm_->MapRange({gfn, gfn + 1}, 0, true,
                              {.time = absl::InfiniteDuration()})
                    .ok());
  }
  const auto sparse =
      MakeHeatmap(*vm_, Frames(0, kFrames), kMaxHeatmapCells, kAmple);
  ASSERT_TRUE(sparse.ok()) << sparse.status();
  EXPECT_EQ(sparse->leaf_count, 64u);
  EXPECT_LE(sparse->step_count, 2u);
  EXPECT_EQ(sparse->next_gfn, Gfn(kFrames));
  EXPECT_EQ(At(*sparse, 0, HeatLayer::kMapped4K), 1);
  EXPECT_EQ(At(*sparse, 1, HeatLayer::kMapped4K), 0);
  EXPECT_EQ(At(*sparse, 256, HeatLayer::kMapped4K), 1);
}

}  // namespace
}  // namespace tdp::server
