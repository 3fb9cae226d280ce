// What a ModelRun compares.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/testing/mmu_model_run.h"
#include "engine/testing/tdp_mmu_peer.h"
#include "engine/testing/tree_check.h"

namespace tdp::testing {

std::string ModelFailure::ToString() const {
  return absl::StrCat("seed ", seed, ", step ", step, ", ", operation, ": ",
                      difference, "\nreplay with TDP_MODEL_SEED=", seed,
                      " TDP_MODEL_STEPS=", step + 1);
}

void ModelRun::Differ(const std::string& difference) {
  if (difference_.empty()) difference_ = difference;
}

template <typename A, typename B>
void ModelRun::Compare(const char* what, const A& actual, const B& expected) {
  if (actual == expected) return;
  Differ(absl::StrCat(what, " is ", static_cast<int64_t>(actual), ", not ",
                      static_cast<int64_t>(expected)));
}

void ModelRun::CompareStatus(const absl::Status& status,
                             MmuModel::Error error) {
  bool same = false;
  switch (error) {
    case MmuModel::Error::kNone:
      same = status.ok();
      break;
    case MmuModel::Error::kNotBacked:
      same = !status.ok() &&
             DetailOf(status)->reason == ErrorReason::kGfnNotBacked;
      break;
    case MmuModel::Error::kChanging:
      same = !status.ok() &&
             DetailOf(status)->reason == ErrorReason::kOperationConflict;
      break;
  }
  if (!same) {
    Differ(absl::StrCat("status ", status.ToString(), ", expected error ",
                        static_cast<int>(error)));
  }
}

void ModelRun::Make(GfnRange range, const Verb& verb,
                    const std::function<MmuModel::Result()>& expected) {
  touched_ = range;
  const MmuModel::Result result = expected();
  MmuProgress sum;
  if (OneIn(8)) {
    // Stopped at every opportunity, and called again for the rest.
    sum.next_gfn = range.start;
    while (sum.next_gfn < range.end && sum.status.ok()) {
      const MmuProgress part =
          verb({sum.next_gfn, range.end}, [] { return true; });
      if (part.status.ok() && part.next_gfn <= sum.next_gfn) {
        return Differ("a call made no progress");
      }
      sum.next_gfn = part.next_gfn;
      sum.changed_frames += part.changed_frames;
      sum.changed_entries += part.changed_entries;
      sum.status = part.status;
    }
  } else {
    sum = verb(range, [] { return false; });
  }
  CompareStatus(sum.status, result.error);
  Compare("next_gfn", sum.next_gfn.value(), result.next_gfn.value());
  Compare("changed_frames", sum.changed_frames, result.changed_frames);
  // A map counts frames alone.
  if (result.changed_entries != 0) {
    Compare("changed_entries", sum.changed_entries, result.changed_entries);
  }
}

// `entry` was found in `root`, as the last one on the path to `gfn`.
void ModelRun::CompareEntry(uint64_t gfn, int64_t root,
                            const WalkedEntry& entry) {
  const MmuModel::Frame& frame = model_.At(gfn);
  const Spte spte = entry.spte;
  const bool mapped = frame.root == root;
  if (spte.IsLeaf(entry.level) != mapped) {
    return Differ(absl::StrCat("frame ", gfn, mapped ? " has no" : " has a",
                               " leaf in root ", root));
  }
  if (!mapped) {
    if (!spte.IsNonPresent()) {
      Differ(absl::StrCat("frame ", gfn, " has entry ", spte.raw()));
    }
    return;
  }
  const MmuModel::Slot* slot = model_.SlotOf(gfn);
  const FakeBacking* backing = backings_.Find(Gfn(gfn));
  if (slot == nullptr || backing == nullptr) {
    return Differ(absl::StrCat("frame ", gfn, " is mapped without a memslot"));
  }
  const Spte expected =
      Spte::MakeLeaf({.pfn = PfnOf(AlignDown(Gfn(gfn), frame.level),
                                   backing->range(), backing->base_pfn())},
                     frame.level);
  const bool same =
      entry.level == frame.level &&
      entry.gfn == AlignDown(Gfn(gfn), frame.level) &&
      spte.pfn() == expected.pfn() && spte.IsReadable() == frame.readable &&
      spte.IsWritable() == frame.writable &&
      spte.IsMmuWritable() == frame.mmu_writable &&
      spte.IsAccessed() == frame.accessed && spte.IsDirty() == frame.dirty &&
      spte.IsHostWritable() == slot->writable && spte.CheckLeafInvariants();
  if (same) return;
  Differ(absl::StrCat("frame ", gfn, ": entry ", absl::Hex(spte.raw()),
                      " of level ", static_cast<int>(entry.level),
                      "; expected level ", static_cast<int>(frame.level),
                      ", readable ", frame.readable, ", writable ",
                      frame.writable, ", mmu_writable ", frame.mmu_writable,
                      ", accessed ", frame.accessed, ", dirty ", frame.dirty));
}

void ModelRun::CompareHost(GfnRange range) {
  for (uint64_t gfn = range.start.value(); gfn < range.end.value(); ++gfn) {
    const FakeBacking* slot = backings_.Find(Gfn(gfn));
    if (slot == nullptr) continue;
    const HostFrame host = slot->At(Gfn(gfn));
    const MmuModel::Frame& frame = model_.At(gfn);
    if (host.present != frame.host.present ||
        host.writable != frame.host.writable) {
      Differ(absl::StrCat("frame ", gfn, ": the host maps ", host.present,
                          host.writable, ", not ", frame.host.present,
                          frame.host.writable));
    }
    if (host.present && (!slot->HasContent(Gfn(gfn)) || !frame.Grants(false))) {
      Differ(absl::StrCat("frame ", gfn, ": the host maps what it may not"));
    }
  }
}

void ModelRun::ComparePath(uint64_t gfn) {
  const std::vector<WalkedEntry> path = mmu_->WalkGfn(Gfn(gfn));
  PageLevel level = mmu_->root_level();
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i].level != level || path[i].gfn != AlignDown(Gfn(gfn), level) ||
        path[i].spte.IsTable(level) != (i + 1 < path.size())) {
      Differ(absl::StrCat("the path to frame ", gfn, " is broken"));
    }
    level = ChildLevel(level);
  }
  if (path.back().level != model_.LastLevel(gfn)) {
    Differ(absl::StrCat("the path to frame ", gfn, " ends at level ",
                        static_cast<int>(path.back().level)));
  }
  CompareEntry(gfn, model_.valid_root(), path.back());
  const WalkedEntry last = mmu_->WalkFrame(Gfn(gfn));
  if (last.spte != path.back().spte || last.level != path.back().level ||
      last.gfn != path.back().gfn) {
    Differ(absl::StrCat("two walks to frame ", gfn, " differ"));
  }
}

void ModelRun::CompareFrames(GfnRange range) {
  // The neighbours too: nobody else is touched.
  const uint64_t start = range.start.value() - (range.start > Gfn(0) ? 1 : 0);
  const uint64_t end = std::min(range.end.value() + 1, model_.size());
  std::vector<uint64_t> gfns;
  for (uint64_t gfn = start; gfn < end; ++gfn) gfns.push_back(gfn);
  mmu_->WalkFrames(gfns, OneIn(2) ? Prefetch::kYes : Prefetch::kNo,
                   [&](size_t i, const WalkedEntry& entry) {
                     CompareEntry(gfns[i], model_.valid_root(), entry);
                   });
  CompareHost({Gfn(start), Gfn(end)});
  for (const uint64_t gfn : {start, (start + end) / 2, end - 1}) {
    ComparePath(gfn);
    if (mmu_->LimitOf(Gfn(gfn)) != model_.At(gfn).limit) {
      Differ(absl::StrCat("the limit of frame ", gfn, " is another"));
    }
  }
}

void ModelRun::CompareWalk(GfnRange range) {
  WalkOptions options = {
      .min_level = OneIn(4) ? PageLevel::k2M : PageLevel::k4K,
      .leaves_only = true,
      .present_only = true,
      .resume_gfn = Gfn(0)};
  std::vector<WalkedEntry> found;
  const size_t step = OneIn(2) ? 1 + Random(40) : 100'000;
  do {
    std::vector<WalkedEntry> page;
    const Gfn next = mmu_->WalkRange(range, options, step, page);
    found.insert(found.end(), page.begin(), page.end());
    options.resume_gfn = next;
  } while (options.resume_gfn < range.end);
  size_t i = 0;
  const uint64_t end = std::min(range.end.value(), model_.size());
  for (uint64_t gfn = range.start.value(); gfn < end;) {
    const MmuModel::Frame& frame = model_.At(gfn);
    if (frame.root != model_.valid_root()) {
      ++gfn;
      continue;
    }
    const Gfn first = AlignDown(Gfn(gfn), frame.level);
    gfn = (first + FramesPerEntry(frame.level)).value();
    if (frame.level < options.min_level) continue;
    if (i >= found.size() || found[i].gfn != first) {
      return Differ(absl::StrCat("a walk does not show frame ", first.value()));
    }
    CompareEntry(first.value(), model_.valid_root(), found[i++]);
  }
  Compare("leaves walked", found.size(), i);
}

void ModelRun::CompareAudit(GfnRange range) {
  std::set<uint64_t> found;
  const AuditProgress progress = mmu_->AuditRange(
      range, [] { return false; },
      [&](const AuditFinding& finding) {
        found.insert(finding.gfn.value());
        if (finding.host_grants_more) Differ("the host grants more");
      });
  CompareStatus(progress.status, MmuModel::Error::kNone);
  Compare("the audit's end", progress.next_gfn.value(), range.end.value());
  int64_t backed = 0;
  for (uint64_t gfn = range.start.value(); gfn < range.end.value(); ++gfn) {
    const MmuModel::Frame& frame = model_.At(gfn);
    if (model_.SlotOf(gfn) != nullptr) ++backed;
    const bool differs = frame.host.present != frame.Grants(false) ||
                         frame.host.writable != frame.Grants(true);
    if (differs != (found.count(gfn) != 0)) {
      Differ(absl::StrCat("frame ", gfn, differs ? " is not" : " is",
                          " reported by the audit"));
    }
  }
  Compare("compared frames", progress.compared_frames, backed);
}

void ModelRun::CompareCounters() {
  Compare("4K leaves", mmu_->Read(MmuCounter::kLeaf4K),
          model_.leaves(PageLevel::k4K));
  Compare("2M leaves", mmu_->Read(MmuCounter::kLeaf2M),
          model_.leaves(PageLevel::k2M));
  Compare("1G leaves", mmu_->Read(MmuCounter::kLeaf1G),
          model_.leaves(PageLevel::k1G));
  int64_t tables = 0;
  for (const auto& [root, linked] : model_.tables()) {
    tables += 1 + static_cast<int64_t>(linked.size());
  }
  Compare("linked tables", mmu_->Read(MmuCounter::kLinkedTables), tables);
  Compare("faults fixed", mmu_->Read(MmuCounter::kFaultFixed), model_.fixed());
  Compare("spurious faults", mmu_->Read(MmuCounter::kFaultSpurious),
          model_.spurious());
  Compare("faults granted", mmu_->Read(MmuCounter::kFaultWriteProtected),
          model_.write_protected());
  Compare("faults to retry", mmu_->Read(MmuCounter::kFaultRetry), 0);
  Compare("splits", mmu_->Read(MmuCounter::kSplits), model_.splits());
  Compare("collapses", mmu_->Read(MmuCounter::kCollapses), model_.collapses());
  Compare("host calls", mmu_->Read(MmuCounter::kHostCalls),
          backings_.host().call_count());
  if (!backings_.host().violations().empty()) {
    Differ(backings_.host().violations().front());
  }
}

void ModelRun::CompareRoots() {
  const std::vector<TdpRoot> roots = TdpMmuPeer::Roots(*mmu_);
  Compare("roots", roots.size(), model_.tables().size());
  int64_t leaves[static_cast<int>(kMaxLeafLevel) + 1] = {};
  for (const TdpRoot& root : roots) {
    const auto linked = model_.tables().find(root.id);
    if (linked == model_.tables().end()) return Differ("an unknown root");
    if (root.role.invalid != (root.id != model_.valid_root())) {
      Differ("another root is valid");
    }
    const TreeCensus census =
        CheckTree(rcu_, root.tree(), [&](Gfn gfn, PageLevel level, Spte spte) {
          CompareEntry(gfn.value(), root.id, {spte, level, gfn});
        });
    if (!census.faults.empty()) Differ(census.faults.front());
    Compare("tables of a root", census.tables - 1,
            static_cast<int64_t>(linked->second.size()));
    for (int level = 1; level <= static_cast<int>(kMaxLeafLevel); ++level) {
      leaves[level] += census.leaves[level];
    }
  }
  for (const PageLevel level :
       {PageLevel::k4K, PageLevel::k2M, PageLevel::k1G}) {
    Compare("leaves in the trees", leaves[static_cast<int>(level)],
            model_.leaves(level));
  }
}

void ModelRun::CompareAll() {
  CompareCounters();
  CompareRoots();
  // Each leaf of the trees is one of the model and their numbers are the same;
  // here, that the model has as many as it says.
  int64_t frames = 0;
  for (uint64_t gfn = 0; gfn < model_.size(); ++gfn) {
    frames += model_.At(gfn).root != 0 ? 1 : 0;
  }
  int64_t covered = 0;
  for (const PageLevel level :
       {PageLevel::k4K, PageLevel::k2M, PageLevel::k1G}) {
    covered +=
        model_.leaves(level) * static_cast<int64_t>(FramesPerEntry(level));
  }
  Compare("frames in leaves of the model", covered, frames);
  for (const MmuModel::Slot& slot : model_.slots()) CompareHost(slot.range);
}

void ModelRun::CompareEnd() {
  model_.InvalidateRoots();
  model_.ZapInvalidatedRoots();
  if (!mmu_->InvalidateRoots().ok() || !mmu_->ZapInvalidatedRoots().ok()) {
    Differ("the last zap-all failed");
  }
  CompareAll();
  rcu_.Barrier();
  Compare("table bytes at the end", mmu_->page_table_bytes(),
          static_cast<int64_t>(kPageSize));
  Compare("tables used at the end", TdpMmuPeer::Pool(*mmu_).used_count(), 1);
}

}  // namespace tdp::testing
