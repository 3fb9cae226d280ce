// ApplyBatch: finding and freezing what is to change.

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/base/errors.h"
#include "engine/mmu/batch.h"
#include "engine/mmu/host_pages.h"

namespace tdp {

absl::Status TdpMmu::Batch::Prepare() {
  entries_.clear();
  gaps_.clear();
  if (absl::Status s = PinPieces(); !s.ok()) return s;
  uint64_t frames = 0;
  for (Piece& piece : pieces_) {
    if (absl::Status s = PreparePiece(piece); !s.ok()) return s;
    piece.first_seen = frames;
    frames += piece.range.size();
  }
  // So that nothing is allocated under the lock, by the host neither.
  entries_.resize(frames);
  entries_.clear();
  gaps_.resize(frames);
  gaps_.clear();
  seen_.assign(frames, 0);
  return absl::OkStatus();
}

absl::Status TdpMmu::Batch::PinPieces() {
  pieces_.clear();
  for (const MmuOperation& operation : operations_) {
    // A limit goes with its memslot, which stays until the limit is set.
    const bool needs_slot = operation.kind == MmuOperation::Kind::kMap ||
                            operation.kind == MmuOperation::Kind::kProtect;
    const GfnRange range = operation.range.Intersect(mmu_.span());
    for (Gfn gfn = range.start; gfn < range.end;) {
      PinResult found =
          mmu_.backings_.Pin(gfn, needs_slot ? PinMode::kMap : PinMode::kUnmap);
      if (!found.pin) {
        if (needs_slot) {
          return found.changing ? ChangingError(gfn) : GfnNotBackedError(gfn);
        }
        if (!mmu_.backings_.NextBacked(gfn + 1, &gfn)) break;
        continue;
      }
      // It was not here when the caller made sure that writes can be held back.
      if (operation.HoldsWritesBack() && !found.pin->write_protects()) {
        return ChangingError(gfn);
      }
      const GfnRange piece =
          GfnRange{gfn, range.end}.Intersect(found.pin->range());
      absl::Status granule = CheckHostPages(*found.pin, operation.range);
      if (granule.ok() && operation.kind == MmuOperation::Kind::kMap) {
        granule = CheckLeafLevel(*found.pin, operation.max_level);
      }
      if (!granule.ok()) return granule;
      const LeafSource source(*found.pin);
      const bool tracks_writes = found.pin->tracks_writes();
      pieces_.push_back(
          {&operation, piece, std::move(found.pin), source, tracks_writes});
      gfn = piece.end;
    }
  }
  return absl::OkStatus();
}

// Brings the tree into a shape in which every entry that is to change lies
// inside the piece, and exists if it is to be mapped.
absl::Status TdpMmu::Batch::PreparePiece(const Piece& piece) {
  const bool maps = piece.operation->kind == MmuOperation::Kind::kMap;
  const PageLevel leaf_level = piece.pin->host_page_level();
  if (absl::Status s = mmu_.ZapInInvalidRoots(piece.range); !s.ok()) return s;
  PageTableCache cache(mmu_.pool_);
  for (Gfn gfn = piece.range.start; gfn < piece.range.end;) {
    if (maps) {
      const int levels = static_cast<int>(mmu_.root_level_) - 1;
      if (absl::Status s = cache.TopUp(levels); !s.ok()) return s;
    }
    std::optional<WalkedEntry> split;
    {
      MmuReadGuard lock(mmu_.mmu_lock_);
      RcuReadGuard rcu(mmu_.rcu_);
      const TdpRoot& root = mmu_.Roots().valid();
      LastEntry last = FindLastEntry(root.tree(), gfn);
      // Another table may be needed than was: it goes when it is empty.
      while (maps && cache.size() > 0 && last.level > leaf_level &&
             last.spte.IsNonPresent()) {
        (void)mmu_.TryLinkTable(root, last.entry, AlignDown(gfn, last.level),
                                last.level, cache);
        last = FindLastEntry(root.tree(), gfn);
      }
      const Gfn start = AlignDown(gfn, last.level);
      const Gfn end = start + FramesPerEntry(last.level);
      if (last.spte.IsHuge(last.level) &&
          (last.level > PageLevel::k2M ||
           !piece.range.Contains(GfnRange{start, end}))) {
        split = {last.spte, last.level, start};
      } else if (!maps || last.level <= leaf_level ||
                 !last.spte.IsNonPresent()) {
        gfn = last.level == PageLevel::k4K ? AlignDown(gfn, PageLevel::k2M) +
                                                 FramesPerEntry(PageLevel::k2M)
                                           : end;
      }
    }
    if (split.has_value()) {
      const TableLimit limit = split->level == PageLevel::k1G
                                   ? TableLimit::kIgnored
                                   : TableLimit::kEnforced;
      const absl::StatusOr<bool> done = mmu_.SplitHugeLeaf(
          *mmu_.GetValidRoot(), split->gfn, split->level, limit);
      if (!done.ok()) return done.status();
      split_.insert({split->gfn.value(), split->level});
    }
  }
  if (!maps) return absl::OkStatus();
  GfnRange rest = piece.range;
  while (!rest.empty()) {
    const GfnRange block = FirstEntryOf(rest, PageLevel::k2M);
    if (absl::Status s = piece.pin->LoadContent(block); !s.ok()) return s;
    rest.start = block.end;
  }
  return absl::OkStatus();
}

bool TdpMmu::Batch::FreezeParts() {
  bool first = true;
  for (const Piece& piece : pieces_) {
    GfnRange rest = piece.range;
    while (!rest.empty()) {
      const GfnRange part = FirstEntryOf(rest, PageLevel::k2M);
      // Owners may take mmu_lock here alone: nobody waits for an owner while it
      // holds the lock.
      MmuReadGuard lock(mmu_.mmu_lock_);
      RcuReadGuard rcu(mmu_.rcu_);
      const RootSet& roots = mmu_.Roots();
      if (first) root_id_ = roots.valid().id;
      first = false;
      if (roots.valid().id != root_id_) return false;
      if (roots.HasInvalid() && mmu_.HeldByInvalidRoot(roots, part)) {
        return false;
      }
      if (!FreezePart(roots.valid(), piece, part, &gaps_)) return false;
      rest.start = part.end;
    }
  }
  return true;
}

// What was installed in a gap since it was looked at is frozen as well. Then no
// fault is between its look at the limits and its entry, for it would hold
// mmu_lock for reading; one that has looked at less retries.
bool TdpMmu::Batch::Settle(std::unique_ptr<AccessLimits::List>& limits) {
  MmuWriteGuard lock(mmu_.mmu_lock_);
  RcuReadGuard rcu(mmu_.rcu_);
  const TdpRoot& root = mmu_.Roots().valid();
  if (!pieces_.empty() && root.id != root_id_) return false;
  // Whoever has switched a dirty log on finds the entries FROZEN, or is seen.
  for (const Piece& piece : pieces_) {
    if (piece.pin->tracks_writes() != piece.tracks_writes) return false;
  }
  for (const Gap& gap : gaps_) {
    if (!FreezePart(root, *gap.piece, gap.range, nullptr)) return false;
  }
  mmu_.limits_.Publish(std::move(limits));
  mmu_.sequence_.BeginSweep();
  for (const Piece& piece : pieces_) mmu_.sequence_.Advance(piece.range);
  return true;
}

bool TdpMmu::Batch::FreezePart(const TdpRoot& root, const Piece& piece,
                               GfnRange part, std::vector<Gap>* gaps) {
  for (TdpIterator it(root.tree(), part, PageLevel::k2M); it.valid();
       it.Next()) {
    if (!it.spte().IsTable(it.level())) {
      const WalkedEntry entry = {it.spte(), it.level(), it.gfn()};
      if (!FreezeEntry(piece, it.entry(), entry, part, gaps)) return false;
      continue;
    }
    if (it.level() != PageLevel::k2M) continue;
    // Most of the work under mmu_lock: without the iterator. If the table was
    // unlinked since, its entries are FROZEN.
    PageTable* table = TableOf(it.spte());
    const GfnRange covered = part.Intersect(it.covered());
    for (Gfn gfn = covered.start; gfn < covered.end; gfn += 1) {
      const SptePtr location = table->EntryAt(IndexIn(gfn, PageLevel::k4K));
      const WalkedEntry entry = {ReadSpte(location), PageLevel::k4K, gfn};
      uint64_t& seen = seen_[piece.first_seen + (gfn - piece.range.start)];
      if (gaps != nullptr) {
        seen = entry.spte.raw();
      } else if (seen == entry.spte.raw()) {
        continue;
      }
      if (!FreezeEntry(piece, location, entry, part, gaps)) return false;
    }
  }
  return true;
}

bool TdpMmu::Batch::FreezeEntry(const Piece& piece, SptePtr location,
                                const WalkedEntry& entry, GfnRange part,
                                std::vector<Gap>* gaps) {
  const auto& [spte, level, gfn] = entry;
  const GfnRange covered = {gfn, gfn + FramesPerEntry(level)};
  if (spte.IsFrozen()) return false;
  const bool maps = piece.operation->kind == MmuOperation::Kind::kMap;
  const std::optional<BatchChange> change = spte.IsNonPresent() && !maps
                                                ? std::nullopt
                                                : Plan(piece, spte, gfn, level);
  if (!change.has_value()) {
    if (gaps != nullptr) AddGap(piece, covered.Intersect(part), *gaps);
    return true;
  }
  // A table went, or a huge leaf came, since the batch was prepared.
  if ((spte.IsNonPresent() && level > piece.pin->host_page_level()) ||
      level > PageLevel::k2M || !piece.range.Contains(covered) ||
      !TryWriteSpte(location, spte, Spte::Frozen())) {
    return false;
  }
  entries_.push_back(
      {location, gfn, level, change->step, spte, change->target, &*piece.pin});
  return true;
}

void TdpMmu::Batch::AddGap(const Piece& piece, GfnRange range,
                           std::vector<Gap>& gaps) {
  if (!gaps.empty() && gaps.back().piece == &piece &&
      gaps.back().range.end == range.start) {
    gaps.back().range.end = range.end;
  } else {
    gaps.push_back({&piece, range});
  }
}

bool TdpMmu::Batch::WasSplitFrom(Gfn gfn, PageLevel min_level) const {
  for (PageLevel level = min_level; level <= kMaxLeafLevel;
       level = ParentLevel(level)) {
    if (split_.contains({AlignDown(gfn, level).value(), level})) return true;
  }
  return false;
}

std::optional<BatchChange> TdpMmu::Batch::Plan(const Piece& piece, Spte old,
                                               Gfn gfn, PageLevel level) const {
  const MmuOperation& operation = *piece.operation;
  const auto restrict_to = [&](Spte target) -> std::optional<BatchChange> {
    if (target == old) return std::nullopt;
    BatchStep step = BatchStep::kNone;
    if (old.IsHostMapped() && !target.IsHostMapped()) {
      step = BatchStep::kUnmap;
    } else if (old.IsHostMapped() && old.IsWritable() && !target.IsWritable()) {
      step = BatchStep::kReadOnly;
    }
    return BatchChange{target, step};
  };
  switch (operation.kind) {
    case MmuOperation::Kind::kZap:
      return BatchChange{Spte::NonPresent(), BatchStep::kUnmap};
    case MmuOperation::Kind::kProtect:
      return restrict_to(old.WithLimit(operation.access));
    case MmuOperation::Kind::kWriteProtect:
      if (level < operation.min_level &&
          !WasSplitFrom(gfn, operation.min_level)) {
        return std::nullopt;
      }
      return restrict_to(old.WithoutWrite());
    case MmuOperation::Kind::kMap:
      break;
  }
  const Access limit = mmu_.limits_.At(gfn).access;
  const bool write = (operation.write || !piece.pin->write_protects()) &&
                     piece.source.writable && limit.write &&
                     !piece.tracks_writes;
  const MapIntent intent = {.max_level = PageLevel::k4K,
                            .needed = {.read = true, .write = write},
                            .make_writable = write,
                            .for_fault = false,
                            .may_install = true,
                            .frame_by_frame = false,
                            .sequence = {}};
  if (!old.IsPresent() && !mmu_.MayInstall(intent, limit)) return std::nullopt;
  const MapPlan plan = PlanFor(old, gfn, level, piece.source, intent, limit);
  switch (plan.action) {
    case HostAction::kNone:
      return std::nullopt;
    case HostAction::kMap:
      return BatchChange{plan.target, plan.target.IsWritable()
                                          ? BatchStep::kMap
                                          : BatchStep::kMapReadOnly};
    case HostAction::kProtect:
      return BatchChange{plan.target, BatchStep::kGrant};
  }
  return std::nullopt;
}

}  // namespace tdp
