#include "client/lib/heatmap.h"

#include <algorithm>
#include <cassert>

#include "client/lib/bitmap.h"
#include "client/lib/spte_text.h"

namespace tdp::client {

Heatmap::Heatmap(FrameRange range, uint64_t frames_per_cell,
                 DirtySource dirty_source)
    : range_(range),
      frames_per_cell_(frames_per_cell),
      dirty_source_(dirty_source),
      reached_gfn_(range.start_gfn),
      counted_gfn_(range.start_gfn) {
  assert(range.start_gfn < range.end_gfn);
  assert(frames_per_cell > 0);
  uint64_t start = range.start_gfn;
  while (start < range.end_gfn) {
    const uint64_t end =
        start + std::min(frames_per_cell, range.end_gfn - start);
    HeatCell& cell = cells_.emplace_back();
    cell.frames = {start, end};
    start = end;
  }
}

void Heatmap::AddWalk(const v1::WalkRangeResponse& batch) {
  for (const v1::Spte& spte : batch.sptes()) {
    // The fields of a frozen entry mean nothing.
    if (spte.leaf() && spte.present() && !spte.frozen()) AddLeaf(spte);
  }
  reached_gfn_ = std::clamp(batch.next_gfn(), reached_gfn_, range_.end_gfn);
  counted_gfn_ = std::max(counted_gfn_, reached_gfn_);
}

void Heatmap::EndWalk() { reached_gfn_ = range_.end_gfn; }

void Heatmap::AddDirtyLog(const v1::Bitmap& dirty) {
  assert(dirty_source_ == DirtySource::kDirtyLog);
  ForEachRun(dirty,
             [&](FrameRange run) { Count(run, &HeatCell::dirty_count); });
}

void Heatmap::AddLeaf(const v1::Spte& leaf) {
  FrameRange frames = FramesOf(leaf);
  frames.start_gfn = std::max(frames.start_gfn, counted_gfn_);
  if (frames.start_gfn >= frames.end_gfn) return;
  counted_gfn_ = frames.end_gfn;
  Count(frames, &HeatCell::mapped_count);
  if (leaf.level() > v1::PAGE_LEVEL_4K) Count(frames, &HeatCell::huge_count);
  if (leaf.accessed()) Count(frames, &HeatCell::young_count);
  if (leaf.dirty() && dirty_source_ == DirtySource::kDirtyBits) {
    Count(frames, &HeatCell::dirty_count);
  }
}

void Heatmap::Count(FrameRange frames, int64_t HeatCell::* count) {
  uint64_t next = std::max(frames.start_gfn, range_.start_gfn);
  const uint64_t end = std::min(frames.end_gfn, range_.end_gfn);
  while (next < end) {
    HeatCell& cell = cells_[(next - range_.start_gfn) / frames_per_cell_];
    const uint64_t stop = std::min(end, cell.frames.end_gfn);
    cell.*count += static_cast<int64_t>(stop - next);
    next = stop;
  }
}

HeatState Heatmap::StateOf(const HeatCell& cell) const {
  if (cell.dirty_count > 0) return HeatState::kDirty;
  if (cell.young_count > 0) return HeatState::kYoung;
  if (cell.huge_count > 0) return HeatState::kHuge;
  if (cell.mapped_count > 0) return HeatState::kMapped;
  return cell.frames.end_gfn <= reached_gfn_ ? HeatState::kUnmapped
                                             : HeatState::kUnknown;
}

bool Heatmap::IsWhole(const HeatCell& cell) const {
  switch (StateOf(cell)) {
    case HeatState::kDirty:
      return cell.dirty_count == cell.frame_count();
    case HeatState::kYoung:
      return cell.young_count == cell.frame_count();
    case HeatState::kHuge:
      return cell.huge_count == cell.frame_count();
    case HeatState::kMapped:
      return cell.mapped_count == cell.frame_count();
    case HeatState::kUnmapped:
    case HeatState::kUnknown:
      return true;
  }
  return true;
}

uint64_t FramesPerCell(uint64_t frame_count, uint64_t max_cells) {
  assert(max_cells > 0);
  uint64_t frames = 1;
  // Divided, rounded up, so that nothing overflows.
  while (frame_count / frames + (frame_count % frames != 0) > max_cells) {
    frames *= 2;
  }
  return frames;
}

}  // namespace tdp::client
