#include "engine/testing/mmu_model.h"

#include <algorithm>

namespace tdp::testing {
namespace {

constexpr uint64_t kBlockFrames = FramesPerEntry(PageLevel::k2M);

GfnRange BlockOf(uint64_t gfn) {
  const Gfn start = AlignDown(Gfn(gfn), PageLevel::k2M);
  return {start, start + kBlockFrames};
}

}  // namespace

const MmuModel::Slot* MmuModel::SlotOf(uint64_t gfn) const {
  for (const Slot& slot : slots_) {
    if (slot.state != SlotState::kGone && slot.range.Contains(Gfn(gfn))) {
      return &slot;
    }
  }
  return nullptr;
}

// --- Leaves ------------------------------------------------------------------

GfnRange MmuModel::LeafOf(uint64_t gfn) const {
  const PageLevel level = frames_[gfn].level;
  const Gfn start = AlignDown(Gfn(gfn), level);
  return {start, start + FramesPerEntry(level)};
}

void MmuModel::ForEachLeaf(GfnRange range, int64_t root,
                           const std::function<bool(const Frame&)>& wants,
                           const LeafVisit& visit) {
  const uint64_t end = std::min<uint64_t>(range.end.value(), frames_.size());
  for (uint64_t gfn = range.start.value(); gfn < end;) {
    const Frame& frame = frames_[gfn];
    if (frame.root == 0 || (root != kAllRoots && frame.root != root)) {
      ++gfn;
      continue;
    }
    const GfnRange leaf = LeafOf(gfn);
    if (wants(frame)) {
      if (frame.level > PageLevel::k2M) {
        SplitLeaf(leaf.start.value());
        continue;
      }
      visit(leaf.start.value());
    }
    gfn = leaf.end.value();
  }
}

template <typename Change>
void MmuModel::ChangeLeaf(uint64_t first, const Change& change) {
  const uint64_t end = first + FramesPerEntry(frames_[first].level);
  for (uint64_t gfn = first; gfn < end; ++gfn) change(frames_[gfn]);
}

void MmuModel::Install(uint64_t first, PageLevel level, const Slot& slot,
                       bool make_writable) {
  const bool mmu_writable = slot.writable && frames_[first].limit.write;
  const bool writable = mmu_writable && make_writable;
  frames_[first].level = level;
  ChangeLeaf(first, [&](Frame& frame) {
    frame = {.root = valid_root_,
             .level = level,
             .readable = true,
             .writable = writable,
             .mmu_writable = mmu_writable,
             .accessed = true,
             .dirty = writable,
             .limit = frame.limit,
             .host = {.present = true, .writable = writable}};
  });
  ++leaves_[static_cast<size_t>(level)];
  LinkPath(first, level);
}

void MmuModel::Remove(uint64_t first) {
  --leaves_[static_cast<size_t>(frames_[first].level)];
  const uint64_t end = first + FramesPerEntry(frames_[first].level);
  for (uint64_t gfn = first; gfn < end; ++gfn) {
    frames_[gfn] = {.limit = frames_[gfn].limit, .host = {}};
  }
}

void MmuModel::SplitLeaf(uint64_t first) {
  const PageLevel level = frames_[first].level;
  const PageLevel child = ChildLevel(level);
  tables_[frames_[first].root].insert({child, first});
  ChangeLeaf(first, [&](Frame& frame) { frame.level = child; });
  --leaves_[static_cast<size_t>(level)];
  leaves_[static_cast<size_t>(child)] += kEntriesPerTable;
  ++splits_;
}

void MmuModel::LinkPath(uint64_t gfn, PageLevel level) {
  for (; level < root_level_; level = ParentLevel(level)) {
    tables_[valid_root_].insert(
        {level, AlignDown(Gfn(gfn), ParentLevel(level)).value()});
  }
}

PageLevel MmuModel::LastLevel(uint64_t gfn) const {
  const Frame& frame = frames_[gfn];
  if (frame.root == valid_root_) return frame.level;
  const Tables& tables = tables_.at(valid_root_);
  PageLevel level = root_level_;
  while (level > PageLevel::k4K &&
         tables.count(
             {ChildLevel(level), AlignDown(Gfn(gfn), level).value()}) != 0) {
    level = ChildLevel(level);
  }
  return level;
}

bool MmuModel::UniformLimit(GfnRange range) const {
  const Access limit = frames_[range.start.value()].limit;
  for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
    if (frames_[gfn.value()].limit != limit) return false;
  }
  return true;
}

bool MmuModel::MappedInValidRoot(GfnRange range) const {
  for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
    if (frames_[gfn.value()].root == valid_root_) return true;
  }
  return false;
}

// --- Fault, map, zap ---------------------------------------------------------

MmuModel::MapEffect MmuModel::MapPresent(uint64_t gfn, bool write) {
  const Frame frame = frames_[gfn];
  if (frame.Grants(write) || !frame.readable) return MapEffect::kNone;
  const bool grant = write && !frame.writable;
  if (grant && !frame.mmu_writable) return MapEffect::kNone;
  if (frame.level > PageLevel::k2M) SplitLeaf(LeafOf(gfn).start.value());
  ChangeLeaf(LeafOf(gfn).start.value(), [&](Frame& each) {
    each.accessed = true;
    each.writable |= grant;
    each.dirty |= grant;
    each.host.present |= !frame.accessed;
    each.host.writable = each.host.present && each.writable;
  });
  return frame.accessed ? MapEffect::kWriteGranted : MapEffect::kMapped;
}

bool MmuModel::TryInstallHuge(GfnRange block, const Slot& slot,
                              bool make_writable) {
  if (!UniformLimit(block) || MappedInValidRoot(block)) return false;
  // An empty table gives way.
  tables_[valid_root_].erase({PageLevel::k4K, block.start.value()});
  Install(block.start.value(), PageLevel::k2M, slot, make_writable);
  return true;
}

FaultResult MmuModel::Fault(uint64_t gfn, bool write, bool may_install) {
  const Slot* slot = SlotOf(gfn);
  if (slot == nullptr) return FaultResult::kUnbacked;
  if (slot->state == SlotState::kClosed) return FaultResult::kChanging;
  if (write && !slot->writable) return FaultResult::kForbidden;
  Frame& frame = frames_[gfn];
  if (frame.root == valid_root_) {
    if (!frame.readable || (write && !frame.mmu_writable)) {
      return FaultResult::kForbidden;
    }
    switch (MapPresent(gfn, write)) {
      case MapEffect::kNone:
        // The host had dropped it, or never mapped this frame of the leaf.
        frame.host = {.present = true, .writable = frame.writable};
        ++spurious_;
        return FaultResult::kSpurious;
      case MapEffect::kMapped:
        ++fixed_;
        return FaultResult::kFixed;
      case MapEffect::kWriteGranted:
        ++write_protected_;
        return FaultResult::kWriteProtected;
    }
  }
  if (!may_install) return FaultResult::kForbidden;
  const bool huge = slot->max_fault_level >= PageLevel::k2M &&
                    slot->range.Contains(BlockOf(gfn));
  ZapInInvalidRoots(huge ? BlockOf(gfn) : GfnRange{Gfn(gfn), Gfn(gfn + 1)});
  if (!frame.limit.read || (write && !frame.limit.write)) {
    return FaultResult::kForbidden;
  }
  if (!huge || !TryInstallHuge(BlockOf(gfn), *slot, /*make_writable=*/true)) {
    Install(gfn, PageLevel::k4K, *slot, /*make_writable=*/true);
  }
  ++fixed_;
  return FaultResult::kFixed;
}

MmuModel::Error MmuModel::CheckBacked(GfnRange range) const {
  for (Gfn gfn = range.start; gfn < range.end;) {
    const Slot* slot = SlotOf(gfn.value());
    if (slot == nullptr) return Error::kNotBacked;
    gfn = slot->range.end;
  }
  return Error::kNone;
}

MmuModel::Result MmuModel::Map(GfnRange range, const MapOptions& options) {
  Result result = {.error = CheckBacked(range), .next_gfn = range.start};
  if (result.error != Error::kNone) return result;
  while (result.next_gfn < range.end) {
    const Slot& slot = *SlotOf(result.next_gfn.value());
    if (slot.state == SlotState::kClosed) {
      result.error = Error::kChanging;
      return result;
    }
    const bool write = options.write && slot.writable;
    const GfnRange block = BlockOf(result.next_gfn.value());
    const GfnRange piece = GfnRange{result.next_gfn, range.end}
                               .Intersect(slot.range)
                               .Intersect(block);
    ZapInInvalidRoots(piece);
    if (piece == block && options.max_level >= PageLevel::k2M &&
        frames_[block.start.value()].limit.read &&
        TryInstallHuge(block, slot, write)) {
      result.changed_frames += static_cast<int64_t>(kBlockFrames);
    }
    for (uint64_t gfn = piece.start.value(); gfn < piece.end.value();) {
      const Frame& frame = frames_[gfn];
      if (frame.root == valid_root_) {
        // What it can grant.
        if (MapPresent(gfn, write && frame.mmu_writable) ==
            MapEffect::kMapped) {
          result.changed_frames += static_cast<int64_t>(LeafOf(gfn).size());
        }
        gfn = LeafOf(gfn).end.value();
        continue;
      }
      if (frame.limit.read) {
        Install(gfn, PageLevel::k4K, slot, write);
        ++result.changed_frames;
      }
      ++gfn;
    }
    result.next_gfn = piece.end;
  }
  return result;
}

MmuModel::Result MmuModel::Zap(GfnRange range) {
  Result result = {.next_gfn = range.end};
  ForEachLeaf(
      range, kAllRoots, [](const Frame&) { return true; },
      [&](uint64_t first) {
        result.changed_frames += static_cast<int64_t>(LeafOf(first).size());
        ++result.changed_entries;
        Remove(first);
      });
  return result;
}

void MmuModel::ZapInInvalidRoots(GfnRange range) {
  ForEachLeaf(
      range, kAllRoots,
      [this](const Frame& frame) { return frame.root != valid_root_; },
      [this](uint64_t first) { Remove(first); });
}

void MmuModel::InvalidateRoots() { tables_[++valid_root_]; }

void MmuModel::ZapInvalidatedRoots() {
  ZapInInvalidRoots({Gfn(0), Gfn(frames_.size())});
  tables_.erase(tables_.begin(), tables_.find(valid_root_));
}

// --- Protection --------------------------------------------------------------

// Applies a limit to the leaf of 2M or less that begins at `first`.
void MmuModel::Limit(uint64_t first, Access limit, Result& result) {
  const Frame old = frames_[first];
  const bool mmu_writable = limit.read && limit.write &&
                            SlotOf(first) != nullptr && SlotOf(first)->writable;
  if (old.readable == limit.read && old.mmu_writable == mmu_writable) return;
  ++result.changed_entries;
  result.changed_frames += static_cast<int64_t>(LeafOf(first).size());
  ChangeLeaf(first, [&](Frame& frame) {
    frame.readable = limit.read;
    frame.mmu_writable = mmu_writable;
    frame.writable &= mmu_writable;
    frame.accessed &= limit.read;
    frame.host.present &= limit.read;
    frame.host.writable &= mmu_writable;
  });
}

MmuModel::Result MmuModel::Protect(GfnRange range, Access limit) {
  Result result = {.error = CheckBacked(range), .next_gfn = range.start};
  if (result.error != Error::kNone) return result;
  while (result.next_gfn < range.end) {
    const Slot& slot = *SlotOf(result.next_gfn.value());
    if (slot.state == SlotState::kClosed) {
      result.error = Error::kChanging;
      return result;
    }
    const GfnRange piece =
        GfnRange{result.next_gfn, range.end}.Intersect(slot.range);
    for (Gfn gfn = piece.start; gfn < piece.end; gfn += 1) {
      frames_[gfn.value()].limit = limit;
    }
    for (uint64_t gfn = piece.start.value(); gfn < piece.end.value();) {
      const Frame& frame = frames_[gfn];
      if (frame.root == 0) {
        ++gfn;
        continue;
      }
      const GfnRange leaf = LeafOf(gfn);
      const bool changes =
          frame.readable != limit.read ||
          frame.mmu_writable != (limit.read && limit.write && slot.writable);
      if (!UniformLimit(leaf) || (changes && frame.level > PageLevel::k2M)) {
        SplitLeaf(leaf.start.value());
        continue;
      }
      Limit(leaf.start.value(), limit, result);
      gfn = leaf.end.value();
    }
    result.next_gfn = piece.end;
  }
  return result;
}

void MmuModel::MoveLimits(GfnRange from, Gfn to) {
  std::vector<Access> limits;
  for (Gfn gfn = from.start; gfn < from.end; gfn += 1) {
    limits.push_back(frames_[gfn.value()].limit);
  }
  ClearLimits(from);
  for (size_t i = 0; i < limits.size(); ++i) {
    if (limits[i] == AccessLimits::kUnlimited) continue;
    frames_[to.value() + i].limit = limits[i];
  }
}

void MmuModel::ClearLimits(GfnRange range) {
  for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
    frames_[gfn.value()].limit = AccessLimits::kUnlimited;
  }
}

MmuModel::Result MmuModel::WriteProtect(GfnRange range, PageLevel min_level) {
  Result result = {.next_gfn = range.end};
  ForEachLeaf(
      range, kAllRoots,
      [&](const Frame& frame) {
        return frame.writable && frame.level >= min_level;
      },
      [&](uint64_t first) {
        result.changed_frames += static_cast<int64_t>(LeafOf(first).size());
        ++result.changed_entries;
        ChangeLeaf(first, [](Frame& frame) {
          frame.writable = false;
          frame.host.writable = false;
        });
      });
  return result;
}

// --- Huge pages --------------------------------------------------------------

MmuModel::Result MmuModel::Split(GfnRange range, PageLevel target_level) {
  Result result = {.next_gfn = range.end};
  const uint64_t end = std::min<uint64_t>(range.end.value(), frames_.size());
  for (uint64_t gfn = range.start.value(); gfn < end;) {
    const Frame& frame = frames_[gfn];
    if (frame.root != valid_root_) {
      ++gfn;
    } else if (frame.level > target_level) {
      SplitLeaf(LeafOf(gfn).start.value());
      ++result.changed_entries;
    } else {
      gfn = LeafOf(gfn).end.value();
    }
  }
  return result;
}

bool MmuModel::CollapseAt(uint64_t first, PageLevel level) {
  const PageLevel child = ChildLevel(level);
  const Slot* slot = SlotOf(first);
  const GfnRange covered = {Gfn(first), Gfn(first) + FramesPerEntry(level)};
  if (slot == nullptr || slot->state != SlotState::kLive ||
      !slot->range.Contains(covered)) {
    return false;
  }
  const Frame& model = frames_[first];
  bool accessed = false;
  bool dirty = false;
  for (Gfn gfn = covered.start; gfn < covered.end; gfn += 1) {
    const Frame& frame = frames_[gfn.value()];
    if (frame.root != valid_root_ || frame.level != child ||
        frame.readable != model.readable || frame.writable != model.writable ||
        frame.mmu_writable != model.mmu_writable) {
      return false;
    }
    accessed |= frame.accessed;
    dirty |= frame.dirty;
  }
  frames_[first].level = level;
  ChangeLeaf(first, [&](Frame& frame) {
    frame.level = level;
    frame.accessed = accessed;
    frame.dirty = dirty;
  });
  leaves_[static_cast<size_t>(child)] -= kEntriesPerTable;
  ++leaves_[static_cast<size_t>(level)];
  tables_[valid_root_].erase({child, first});
  ++collapses_;
  return true;
}

MmuModel::Result MmuModel::Collapse(GfnRange range, PageLevel max_level) {
  Result result = {.next_gfn = range.end};
  const uint64_t end = std::min<uint64_t>(range.end.value(), frames_.size());
  for (PageLevel level = PageLevel::k2M; level <= max_level;
       level = ParentLevel(level)) {
    const uint64_t step = FramesPerEntry(level);
    uint64_t first = (range.start.value() + step - 1) / step * step;
    for (; first + step <= end; first += step) {
      if (!CollapseAt(first, level)) continue;
      ++result.changed_entries;
      result.changed_frames += static_cast<int64_t>(step);
    }
  }
  return result;
}

// --- Age, host ---------------------------------------------------------------

MmuModel::Result MmuModel::Age(GfnRange range, bool test_only,
                               std::set<uint64_t>* young) {
  Result result = {.next_gfn = range.end};
  const uint64_t end = std::min<uint64_t>(range.end.value(), frames_.size());
  for (uint64_t gfn = range.start.value(); gfn < end; ++gfn) {
    if (frames_[gfn].root == valid_root_ && frames_[gfn].accessed) {
      young->insert(gfn);
    }
  }
  if (test_only) return result;
  ForEachLeaf(
      range, valid_root_, [](const Frame& frame) { return frame.accessed; },
      [&](uint64_t first) {
        result.changed_frames += static_cast<int64_t>(LeafOf(first).size());
        ++result.changed_entries;
        ChangeLeaf(first, [](Frame& frame) {
          frame.accessed = false;
          frame.host = {};
        });
      });
  return result;
}

void MmuModel::DropHost(GfnRange range) {
  for (Gfn gfn = range.start; gfn < range.end; gfn += 1) {
    frames_[gfn.value()].host = {};
  }
}

}  // namespace tdp::testing
