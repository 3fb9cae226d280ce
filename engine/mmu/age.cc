// Finding out what the guest has touched.

#include <algorithm>

#include "engine/mmu/host_pages.h"
#include "engine/mmu/leaf_changes.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp {
namespace {

// Entries visited in one RCU read section.
constexpr int kMaxVisits = 4096;

class AgeVerb {
 public:
  static constexpr bool kLockless = true;
  static constexpr bool kSkipsFrozen = true;
  static constexpr bool kSweeps = true;

  explicit AgeVerb(absl::FunctionRef<void(GfnRange)> on_young)
      : on_young_(on_young) {}

  LeafChange Plan(Spte old, Gfn, PageLevel) {
    if (!old.IsAccessed()) return LeafChange::None();
    return {old.WithoutAccessed(), HostStep::kUnmap};
  }
  Gfn PlanEnd(Gfn, PageLevel) { return kGfnEnd; }
  bool MustSplit(Gfn, PageLevel) { return false; }
  void OnSplit(GfnRange) {}
  void OnChanged(GfnRange run) { on_young_(run); }

 private:
  const absl::FunctionRef<void(GfnRange)> on_young_;
};

}  // namespace

MmuProgress TdpMmu::AgeRange(GfnRange range, bool test_only, StopCheck stop,
                             absl::FunctionRef<void(GfnRange)> on_young) {
  range = range.Intersect(span());
  if (absl::Status s = CheckHostPages(backings_, range); !s.ok()) {
    return {.next_gfn = range.start, .status = s};
  }
  if (!test_only) {
    AgeVerb verb(on_young);
    return ChangeLeaves(*GetValidRoot(), range, verb, stop);
  }
  MmuProgress progress{.next_gfn = range.start};
  while (progress.next_gfn < range.end) {
    {
      RcuReadGuard rcu(rcu_);
      TdpIterator it(Roots().valid().tree(), {progress.next_gfn, range.end});
      for (int visited = 0; it.valid(); it.Next()) {
        if (++visited >= kMaxVisits && it.next_gfn() > progress.next_gfn) break;
        const Spte spte = it.spte();
        if (!spte.IsLeaf(it.level()) || !spte.IsAccessed()) continue;
        on_young(it.covered());
      }
      progress.next_gfn = it.valid() ? it.next_gfn() : range.end;
    }
    if (stop()) break;
  }
  return progress;
}

}  // namespace tdp
