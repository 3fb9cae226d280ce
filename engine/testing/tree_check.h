// CheckTree: whether a tree is well formed, and what is in it.
//
// Thread safety: free functions; the tree does not change meanwhile.

#ifndef ENGINE_TESTING_TREE_CHECK_H_
#define ENGINE_TESTING_TREE_CHECK_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/base/types.h"
#include "engine/paging/tdp_iterator.h"
#include "engine/sync/rcu.h"

namespace tdp::testing {

struct TreeCensus {
  int64_t tables = 0;  // the root included
  int64_t leaves[static_cast<int>(kMaxLeafLevel) + 1] = {};  // by level
  // What must not be: one sentence each.
  std::vector<std::string> faults;
};

// Visits every entry. `on_leaf` sees each leaf.
TreeCensus CheckTree(
    RcuDomain& rcu, TdpTree tree,
    const std::function<void(Gfn, PageLevel, Spte)>& on_leaf = {});

// One line for each present entry, indented by depth.
std::string DumpTree(RcuDomain& rcu, TdpTree tree);

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_TREE_CHECK_H_
