// Matchers for entries: EXPECT_THAT(spte, IsLeafFor(pfn)).

#ifndef ENGINE_TESTING_SPTE_MATCHERS_H_
#define ENGINE_TESTING_SPTE_MATCHERS_H_

#include <gmock/gmock.h>

#include <ostream>

#include "engine/paging/spte.h"

namespace tdp {

inline void PrintTo(Spte spte, std::ostream* os) {
  *os << "entry 0x" << std::hex << spte.raw() << std::dec;
}
inline void PrintTo(Gfn gfn, std::ostream* os) { *os << "gfn " << gfn.value(); }

namespace testing {

MATCHER(IsNonPresent, "is not present") { return arg.IsNonPresent(); }
MATCHER(IsFrozenEntry, "is FROZEN") { return arg.IsFrozen(); }
// A leaf that grants writes now.
MATCHER(IsWritableLeaf, "is a leaf that grants writes") {
  return arg.IsPresent() && arg.IsReadable() && arg.IsWritable() &&
         arg.IsDirty() && arg.IsAccessed();
}
// A leaf that grants reads and turns a write into a fault.
MATCHER(IsReadOnlyLeaf, "is a leaf that grants reads alone") {
  return arg.IsPresent() && arg.IsReadable() && !arg.IsWritable() &&
         arg.IsAccessed();
}

}  // namespace testing
}  // namespace tdp

#endif  // ENGINE_TESTING_SPTE_MATCHERS_H_
