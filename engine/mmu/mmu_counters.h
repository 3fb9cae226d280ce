// The counters and gauges of a TdpMmu.

#ifndef ENGINE_MMU_MMU_COUNTERS_H_
#define ENGINE_MMU_MMU_COUNTERS_H_

#include <cstdint>

#include "engine/base/sharded_counters.h"
#include "engine/base/types.h"

namespace tdp {

enum class MmuCounter {
  // Gauges. Leaves and tables of all roots, the invalidated ones included.
  kLeaf4K,
  kLeaf2M,
  kLeaf1G,
  kLinkedTables,
  // Counters.
  kFaultFixed,
  kFaultSpurious,
  kFaultRetry,
  kFaultWriteProtected,
  kHostCalls,
  kYields,
  kSplits,
  kCollapses,
  kCount,
};

using MmuCounters = ShardedCounters<MmuCounter>;

// The gauge of the leaves of a level.
constexpr MmuCounter LeafCounterOf(PageLevel level) {
  return static_cast<MmuCounter>(static_cast<int>(MmuCounter::kLeaf4K) +
                                 static_cast<int>(level) -
                                 static_cast<int>(PageLevel::k4K));
}
static_assert(LeafCounterOf(PageLevel::k2M) == MmuCounter::kLeaf2M);
static_assert(LeafCounterOf(PageLevel::k1G) == MmuCounter::kLeaf1G);

// What a change of entries does to the gauges.
struct EntryDelta {
  int64_t leaves[static_cast<int>(kMaxRootLevel) + 1] = {};  // by level
  int64_t tables = 0;
};

}  // namespace tdp

#endif  // ENGINE_MMU_MMU_COUNTERS_H_
