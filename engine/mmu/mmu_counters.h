// The counters and gauges of a TdpMmu.

#ifndef ENGINE_MMU_MMU_COUNTERS_H_
#define ENGINE_MMU_MMU_COUNTERS_H_

#include "engine/base/sharded_counters.h"

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
  kCount,
};

using MmuCounters = ShardedCounters<MmuCounter>;

}  // namespace tdp

#endif  // ENGINE_MMU_MMU_COUNTERS_H_
