// Lock-free walks.

#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

// Entries that one call of WalkRange visits at most, so that a read section
// over empty tables stays short.
constexpr int kMaxVisits = 1 << 16;

}  // namespace

std::vector<WalkedEntry> TdpMmu::WalkGfn(Gfn gfn) const {
  std::vector<WalkedEntry> path;
  path.reserve(static_cast<size_t>(root_level_));
  RcuReadGuard rcu(rcu_);
  const TdpTree tree = Roots().valid().tree();
  PageTable* table = tree.root;
  for (PageLevel level = tree.level;; level = ChildLevel(level)) {
    const Spte spte = ReadSpte(table->EntryAt(IndexIn(gfn, level)));
    path.push_back({spte, level, AlignDown(gfn, level)});
    if (!spte.IsTable(level)) return path;
    table = TableOf(spte);
  }
}

Gfn TdpMmu::WalkRange(GfnRange range, const WalkOptions& options,
                      size_t max_entries, std::vector<WalkedEntry>& out) const {
  range = range.Intersect(span());
  range.start = std::max(range.start, options.resume_gfn);
  if (range.empty()) return range.end;
  RcuReadGuard rcu(rcu_);
  int visits = 0;
  Gfn last = range.start;
  for (TdpIterator it(Roots().valid().tree(), range, options.min_level);
       it.valid(); it.Next()) {
    // Stop between frames only: a parent and its first child begin at the
    // same one, and the walk resumes by frame.
    if ((out.size() >= max_entries || ++visits > kMaxVisits) &&
        it.next_gfn() > last) {
      return it.next_gfn();
    }
    last = it.next_gfn();
    const Spte spte = it.spte();
    if (it.gfn() < options.resume_gfn) continue;
    if (options.leaves_only && spte.IsTable(it.level())) continue;
    if (options.present_only && !spte.IsPresent()) continue;
    out.push_back({spte, it.level(), it.gfn()});
  }
  return range.end;
}

}  // namespace tdp
