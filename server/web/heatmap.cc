#include "server/web/heatmap.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "engine/base/errors.h"
#include "server/base/status_macros.h"

namespace tdp::server {
namespace {

// Of one step of the walk: the clock is read between steps.
constexpr size_t kStepLeaves = 4096;

using Layers = uint32_t;  // bit i stands for layer i

constexpr Layers Bit(HeatLayer layer) {
  return Layers{1} << static_cast<int>(layer);
}

Layers LayersOf(const SpteView& leaf) {
  Layers layers = 0;
  switch (leaf.level) {
    case PageLevel::k4K:
      layers = Bit(HeatLayer::kMapped4K);
      break;
    case PageLevel::k2M:
      layers = Bit(HeatLayer::kMapped2M);
      break;
    default:
      layers = Bit(HeatLayer::kMapped1G);
  }
  if (leaf.dirty) layers |= Bit(HeatLayer::kDirty);
  if (leaf.accessed) layers |= Bit(HeatLayer::kYoung);
  if (!leaf.access.read || (leaf.host_writable && !leaf.access.write)) {
    layers |= Bit(HeatLayer::kProtected);
  }
  return layers;
}

// How many frames of each cell are in each layer.
class CellCounts {
 public:
  // REQUIRES: the range is not empty.
  CellCounts(GfnRange range, uint64_t max_cells) : range_(range) {
    TDP_CHECK(range.size() <= kMaxHeatmapFrames, "no shift reaches so far");
    // The least power of two of which max_cells cover the range.
    const uint64_t least = (range.size() - 1) / max_cells + 1;
    shift_ = std::bit_width(least - 1);
    counts_.resize(CellOf(range.end - 1) + 1);
  }

  uint64_t frames_per_cell() const { return uint64_t{1} << shift_; }
  size_t size() const { return counts_.size(); }
  size_t CellOf(Gfn gfn) const {
    return static_cast<size_t>((gfn - range_.start) >> shift_);
  }
  GfnRange FramesOf(size_t cell) const {
    const Gfn start = range_.start + (uint64_t{cell} << shift_);
    return {start, start + std::min(frames_per_cell(), range_.end - start)};
  }
  void Add(GfnRange frames, Layers layers) {
    frames = frames.Intersect(range_);
    while (!frames.empty()) {
      const size_t cell = CellOf(frames.start);
      const Gfn stop = std::min(frames.end, FramesOf(cell).end);
      for (Layers rest = layers; rest != 0; rest &= rest - 1) {
        counts_[cell][std::countr_zero(rest)] += stop - frames.start;
      }
      frames.start = stop;
    }
  }
  // One byte for each layer of the first `cell_count` cells, 0 behind them.
  std::string Shares(size_t cell_count) const {
    std::string bytes(counts_.size() * kHeatLayerCount, '\0');
    for (size_t cell = 0; cell < cell_count; ++cell) {
      const uint64_t total = FramesOf(cell).size();
      for (size_t layer = 0; layer < kHeatLayerCount; ++layer) {
        bytes[cell * kHeatLayerCount + layer] =
            static_cast<char>(Share(counts_[cell][layer], total));
      }
    }
    return bytes;
  }

 private:
  static uint8_t Share(uint64_t count, uint64_t total) {
    if (count == 0) return 0;
    if (count >= total) return 255;
    return static_cast<uint8_t>(
        std::clamp<uint64_t>(count * 255 / total, 1, 254));
  }

  const GfnRange range_;
  int shift_ = 0;
  std::vector<std::array<uint64_t, kHeatLayerCount>> counts_;
};

struct WalkEnd {
  Gfn next_gfn;
  size_t leaf_count = 0;
  size_t step_count = 0;
};

absl::StatusOr<WalkEnd> AddLeaves(const Vm& vm, GfnRange range,
                                  const HeatmapBudget& budget,
                                  CellCounts* counts) {
  const absl::Time end = absl::Now() + budget.time;
  WalkEnd walk = {.next_gfn = range.start};
  std::vector<SpteView> leaves;
  do {
    leaves.clear();
    const size_t room =
        std::min(kStepLeaves, budget.max_leaves - walk.leaf_count);
    // Not a walk that is resumed: the tables may have changed, and a huge leaf
    // that lies around the next frame now has not been seen.
    TDP_ASSIGN_OR_RETURN(
        const Gfn next,
        vm.WalkRange({walk.next_gfn, range.end},
                     {.leaves_only = true, .present_only = true}, room,
                     leaves));
    for (const SpteView& leaf : leaves) {
      const Gfn base = AlignDown(leaf.base_gfn, leaf.level);
      const GfnRange frames = {base, base + FramesPerEntry(leaf.level)};
      counts->Add(frames.Intersect({walk.next_gfn, next}), LayersOf(leaf));
    }
    if (next <= walk.next_gfn) {
      return InternalError("a walk made no progress",
                           {{"gfn", Hex(next.value())}});
    }
    walk.next_gfn = next;
    walk.leaf_count += leaves.size();
    ++walk.step_count;
  } while (walk.next_gfn < range.end && walk.leaf_count < budget.max_leaves &&
           absl::Now() < end);
  return walk;
}

}  // namespace

absl::StatusOr<Heatmap> MakeHeatmap(const Vm& vm, GfnRange range,
                                    uint64_t max_cells,
                                    const HeatmapBudget& budget) {
  if (range.empty()) {
    return FieldError("frameCount", "0", "the number of frames, 1 or more");
  }
  CellCounts counts(range, max_cells);
  TDP_ASSIGN_OR_RETURN(const WalkEnd walk,
                       AddLeaves(vm, range, budget, &counts));
  Heatmap result = {.first_gfn = range.start,
                    .frames_per_cell = counts.frames_per_cell(),
                    .cell_count = counts.size(),
                    .next_gfn = walk.next_gfn,
                    .leaf_count = walk.leaf_count,
                    .step_count = walk.step_count};
  size_t told = counts.size();
  if (walk.next_gfn < range.end) {
    const size_t unfinished = counts.CellOf(walk.next_gfn);
    told = std::max<size_t>(unfinished, 1);
    if (unfinished > 0) result.next_gfn = counts.FramesOf(unfinished).start;
  }
  for (const MemslotInfo& slot : vm.ListMemslots()) {
    const Gfn base = slot.config.base_gfn;
    counts.Add({base, base + static_cast<uint64_t>(slot.config.frame_count)},
               Bit(HeatLayer::kBacked));
  }
  result.cells = counts.Shares(told);
  for (const WaitingAccess& access : vm.ListWaitingAccesses()) {
    if (!range.Contains(access.gfn)) continue;
    const size_t cell = counts.CellOf(access.gfn);
    if (cell >= told) continue;
    result.cells[cell * kHeatLayerCount +
                 static_cast<size_t>(HeatLayer::kWaiting)] = '\xff';
  }
  return result;
}

}  // namespace tdp::server
