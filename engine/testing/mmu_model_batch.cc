// ApplyBatch() of the model.

#include <algorithm>

#include "engine/testing/mmu_model.h"

namespace tdp::testing {

// Leaves that straddle are split, and what is to be mapped gets its tables.
void MmuModel::PrepareBatchPiece(const MmuOperation& operation, GfnRange piece,
                                 SplitFrames& split) {
  ZapInInvalidRoots(piece);
  for (uint64_t gfn = piece.start.value(); gfn < piece.end.value();) {
    if (frames_[gfn].root != valid_root_) {
      if (operation.kind == MmuOperation::Kind::kMap) {
        LinkPath(gfn, PageLevel::k4K);
      }
      ++gfn;
      continue;
    }
    const GfnRange leaf = LeafOf(gfn);
    if (frames_[gfn].level > PageLevel::k2M ||
        (frames_[gfn].level == PageLevel::k2M && !piece.Contains(leaf))) {
      for (Gfn part = leaf.start; part < leaf.end; part += 1) {
        split.emplace(part.value(), frames_[gfn].level);
      }
      SplitLeaf(leaf.start.value());
    } else {
      gfn = leaf.end.value();
    }
  }
}

void MmuModel::ApplyToPiece(const MmuOperation& operation, const Slot& slot,
                            GfnRange piece, const SplitFrames& split,
                            Result& result) {
  for (uint64_t gfn = piece.start.value(); gfn < piece.end.value();) {
    const Frame frame = frames_[gfn];
    if (frame.root != valid_root_) {
      if (operation.kind == MmuOperation::Kind::kMap && frame.limit.read) {
        Install(gfn, PageLevel::k4K, slot, operation.write);
        ++result.changed_entries;
      }
      ++gfn;
      continue;
    }
    const GfnRange leaf = LeafOf(gfn);
    switch (operation.kind) {
      case MmuOperation::Kind::kZap:
        Remove(gfn);
        ++result.changed_entries;
        break;
      case MmuOperation::Kind::kProtect:
        Limit(gfn, operation.access, result);
        break;
      case MmuOperation::Kind::kWriteProtect: {
        const auto before = split.find(gfn);
        const bool chosen =
            before != split.end() && before->second >= operation.min_level;
        result.changed_entries +=
            WriteProtect(leaf, chosen ? PageLevel::k4K : operation.min_level)
                .changed_entries;
        break;
      }
      case MmuOperation::Kind::kMap:
        if (MapPresent(gfn, operation.write && slot.writable &&
                                frame.limit.write) != MapEffect::kNone) {
          ++result.changed_entries;
        }
        break;
    }
    gfn = leaf.end.value();
  }
}

MmuModel::Result MmuModel::Batch(const std::vector<MmuOperation>& operations) {
  using Kind = MmuOperation::Kind;
  Result result;
  struct Piece {
    const MmuOperation& operation;
    const Slot& slot;
    GfnRange range;
  };
  std::vector<Piece> pieces;
  for (const MmuOperation& operation : operations) {
    if (operation.kind == Kind::kMap || operation.kind == Kind::kProtect) {
      result.error = CheckBacked(operation.range);
      if (result.error != Error::kNone) return result;
    }
  }
  for (const MmuOperation& operation : operations) {
    for (const Slot& slot : slots_) {
      const GfnRange range = operation.range.Intersect(slot.range);
      if (range.empty() || slot.state == SlotState::kGone) continue;
      if ((operation.kind == Kind::kMap || operation.kind == Kind::kProtect) &&
          slot.state == SlotState::kClosed) {
        result.error = Error::kChanging;
        return result;
      }
      pieces.push_back({operation, slot, range});
    }
  }
  SplitFrames split;
  for (const Piece& piece : pieces) {
    PrepareBatchPiece(piece.operation, piece.range, split);
  }
  for (const Piece& piece : pieces) {
    if (piece.operation.kind == Kind::kProtect) {
      for (Gfn gfn = piece.range.start; gfn < piece.range.end; gfn += 1) {
        frames_[gfn.value()].limit = piece.operation.access;
      }
    }
    ApplyToPiece(piece.operation, piece.slot, piece.range, split, result);
  }
  return result;
}

}  // namespace tdp::testing
