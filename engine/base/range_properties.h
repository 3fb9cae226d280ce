// What holds for ranges of frames and the entries that cover them, checked
// against arithmetic in 128 bits, where nothing wraps. For the fuzzer and the
// test of every combination of edges.
//
// Thread safety: a free function on values. What does not hold ends the
// process.

#ifndef ENGINE_BASE_RANGE_PROPERTIES_H_
#define ENGINE_BASE_RANGE_PROPERTIES_H_

#include <cstdint>

#include "engine/base/types.h"

namespace tdp {

// `range` and `other` may be empty, or end before they start; `gfn` may be any
// number.
void CheckRangeProperties(GfnRange range, GfnRange other, uint64_t gfn);

}  // namespace tdp

#endif  // ENGINE_BASE_RANGE_PROPERTIES_H_
