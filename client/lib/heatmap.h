// What the frames of a range are, folded into cells of many frames each as the
// entries of a walk arrive: memory is bounded by the number of cells.
//
// Thread safety: one thread at a time.

#ifndef CLIENT_LIB_HEATMAP_H_
#define CLIENT_LIB_HEATMAP_H_

#include <cstdint>
#include <vector>

#include "client/lib/address.h"
#include "tdp/v1/mmu_service.pb.h"
#include "tdp/v1/types.pb.h"

namespace tdp::client {

// By rising precedence: of the frames of a cell the most telling state counts.
enum class HeatState {
  kUnknown,  // not reached by the walk, or not to its end
  kUnmapped,
  kMapped,
  kHuge,   // mapped by an entry above 4K
  kYoung,  // the Accessed bit is set
  kDirty,
};

struct HeatCell {
  FrameRange frames;
  int64_t mapped_count = 0;
  int64_t huge_count = 0;
  int64_t young_count = 0;
  int64_t dirty_count = 0;

  int64_t frame_count() const {
    return static_cast<int64_t>(frames.end_gfn - frames.start_gfn);
  }
};

// Where it is known from that a frame is dirty.
enum class DirtySource {
  kDirtyBits,  // of the entries that are walked
  kDirtyLog,   // which also knows of frames that are no longer mapped
};

class Heatmap {
 public:
  // Cells begin at the start of the range; the last one may be smaller.
  // REQUIRES: the range is not empty, frames_per_cell > 0.
  Heatmap(FrameRange range, uint64_t frames_per_cell, DirtySource dirty_source);

  // Takes the next batch of a walk of the range. Frames that an earlier batch
  // told of are left out: the tables may have changed in between.
  void AddWalk(const v1::WalkRangeResponse& batch);
  // The walk has ended: what it did not tell of is unmapped.
  void EndWalk();
  // Takes dirty frames from the log, in order.
  // REQUIRES: the source is kDirtyLog.
  void AddDirtyLog(const v1::Bitmap& dirty);

  FrameRange range() const { return range_; }
  uint64_t frames_per_cell() const { return frames_per_cell_; }
  DirtySource dirty_source() const { return dirty_source_; }
  // The first frame that the walk has not reached.
  uint64_t reached_gfn() const { return reached_gfn_; }
  const std::vector<HeatCell>& cells() const { return cells_; }

  HeatState StateOf(const HeatCell& cell) const;
  // Whether all frames of the cell are in that state.
  bool IsWhole(const HeatCell& cell) const;

 private:
  void AddLeaf(const v1::Spte& leaf);
  // Adds the frames that lie in the range to a count of their cells.
  void Count(FrameRange frames, int64_t HeatCell::* count);

  const FrameRange range_;
  const uint64_t frames_per_cell_;
  const DirtySource dirty_source_;
  uint64_t reached_gfn_;
  uint64_t counted_gfn_;  // leaves before it have been counted
  std::vector<HeatCell> cells_;
};

// The smallest power of two that needs no more than `max_cells` cells.
// REQUIRES: frame_count <= 2^63, max_cells > 0.
uint64_t FramesPerCell(uint64_t frame_count, uint64_t max_cells);

}  // namespace tdp::client

#endif  // CLIENT_LIB_HEATMAP_H_
