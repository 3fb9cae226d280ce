// Heatmap: what the frames of a range are, folded into cells of many frames
// each, by one pass over the page tables through the engine's facade.
//
// Memory is bounded by the number of cells, time by the budget; a subtree that
// maps nothing costs one entry, so that sparse terabytes are cheap.
//
// Thread safety: free function; any thread. Never blocks.

#ifndef SERVER_WEB_HEATMAP_H_
#define SERVER_WEB_HEATMAP_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/base/types.h"
#include "engine/vm/vm.h"

namespace tdp::server {

inline constexpr uint64_t kMaxHeatmapCells = 16384;
// More than any root has; frames of an address space of 64 bits.
inline constexpr uint64_t kMaxHeatmapFrames = uint64_t{1} << 52;

// What is told of a cell, one byte each, in this order: the share of its frames
// of which it is true, 0 only if of none and 255 only if of all.
enum class HeatLayer {
  kMapped4K,
  kMapped2M,
  kMapped1G,
  kDirty,
  kYoung,
  // Mapped, with less access than the memslot grants.
  kProtected,
  // A vCPU waits for a frame of the cell: 0 or 255.
  kWaiting,
  // Inside a memslot.
  kBacked,
};
inline constexpr size_t kHeatLayerCount = 8;

struct HeatmapBudget {
  size_t max_leaves = size_t{1} << 18;
  absl::Duration time = absl::Milliseconds(20);
};

struct Heatmap {
  Gfn first_gfn;
  // A power of two. The last cell may have fewer: those of the range.
  uint64_t frames_per_cell = 1;
  size_t cell_count = 0;
  // The first frame that is not told of; the end of the range if the budget
  // sufficed. It begins a cell, unless it lies in the first one, which then
  // tells of the frames before it.
  Gfn next_gfn;
  // kHeatLayerCount bytes for each cell; 0 from that of next_gfn on.
  std::string cells;
  // The work: present leaves, and steps of the walk, each of which passes a
  // bounded number of entries.
  size_t leaf_count = 0;
  size_t step_count = 0;
};

// Cells begin at range.start and are as small as `max_cells` lets them be.
// REQUIRES: max_cells is 1 to kMaxHeatmapCells; the range has at most
// kMaxHeatmapFrames.
absl::StatusOr<Heatmap> MakeHeatmap(const Vm& vm, GfnRange range,
                                    uint64_t max_cells,
                                    const HeatmapBudget& budget = {});

}  // namespace tdp::server

#endif  // SERVER_WEB_HEATMAP_H_
