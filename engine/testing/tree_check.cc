#include "engine/testing/tree_check.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "engine/paging/page_table_pool.h"

namespace tdp::testing {
namespace {

class Checker {
 public:
  explicit Checker(const std::function<void(Gfn, PageLevel, Spte)>& on_leaf)
      : on_leaf_(on_leaf) {}

  void Visit(PageTable* table, PageLevel level, Gfn base) {
    ++census_.tables;
    if (!tables_.insert(table).second) Fault(level, base, "two parents");
    const PageTableHeader& header = PageTablePool::HeaderOf(table);
    if (header.level != level) Fault(level, base, "header of another level");
    if (header.base_gfn != base) Fault(level, base, "header of another gfn");
    for (int i = 0; i < kEntriesPerTable; ++i) {
      const Gfn gfn = base + static_cast<uint64_t>(i) * FramesPerEntry(level);
      const Spte spte = ReadSpte(table->EntryAt(i));
      if (spte.IsTable(level)) {
        Visit(TableOf(spte), ChildLevel(level), gfn);
      } else if (spte.IsLeaf(level)) {
        VisitLeaf(spte, level, gfn);
      } else if (spte.IsFrozen()) {
        Fault(level, gfn, "left frozen");
      } else if (!spte.IsNonPresent()) {
        Fault(level, gfn, "an entry of no known kind");
      }
    }
  }

  TreeCensus TakeCensus() { return std::move(census_); }

 private:
  void VisitLeaf(Spte spte, PageLevel level, Gfn gfn) {
    if (level > kMaxLeafLevel) return Fault(level, gfn, "a leaf too large");
    ++census_.leaves[static_cast<int>(level)];
    if (!IsAligned(spte.pfn().value(), level)) {
      Fault(level, gfn, "a PFN that is not aligned");
    }
    if (!spte.CheckLeafInvariants()) Fault(level, gfn, "illegal bits");
    if (on_leaf_) on_leaf_(gfn, level, spte);
  }

  void Fault(PageLevel level, Gfn gfn, const char* what) {
    census_.faults.push_back(absl::StrCat("level ", static_cast<int>(level),
                                          ", frame ", gfn.value(), ": ", what));
  }

  const std::function<void(Gfn, PageLevel, Spte)>& on_leaf_;
  TreeCensus census_;
  std::set<const PageTable*> tables_;
};

}  // namespace

TreeCensus CheckTree(RcuDomain& rcu, TdpTree tree,
                     const std::function<void(Gfn, PageLevel, Spte)>& on_leaf) {
  RcuReadGuard guard(rcu);
  Checker checker(on_leaf);
  checker.Visit(tree.root, tree.level, Gfn(0));
  return checker.TakeCensus();
}

std::string DumpTree(RcuDomain& rcu, TdpTree tree) {
  RcuReadGuard guard(rcu);
  std::string text;
  for (TdpIterator it(tree, tree.span()); it.valid(); it.Next()) {
    if (it.spte().IsNonPresent()) continue;
    const int depth =
        static_cast<int>(tree.level) - static_cast<int>(it.level());
    absl::StrAppend(&text, std::string(2 * depth, ' '), "L",
                    static_cast<int>(it.level()), " gfn ", it.gfn().value(),
                    " ", absl::Hex(it.spte().raw(), absl::kZeroPad16), "\n");
  }
  return text;
}

}  // namespace tdp::testing
