// What the pages of the host are too large for: a request that wants to change
// a part of one is refused, and changes nothing.
//
// Thread safety: free functions.

#ifndef ENGINE_MMU_HOST_PAGES_H_
#define ENGINE_MMU_HOST_PAGES_H_

#include "absl/status/status.h"
#include "engine/base/backing.h"
#include "engine/base/types.h"

namespace tdp {

// GRANULE_UNSUPPORTED if an end of `range` cuts a host page of `backing`, or of
// any memslot.
absl::Status CheckHostPages(const Backing& backing, GfnRange range);
absl::Status CheckHostPages(BackingTable& backings, GfnRange range);

// GRANULE_UNSUPPORTED if leaves of `level` at most are too small for `backing`.
absl::Status CheckLeafLevel(const Backing& backing, PageLevel level);
// The same for every memslot that overlaps `range`.
absl::Status CheckLeafLevel(BackingTable& backings, GfnRange range,
                            PageLevel level);

}  // namespace tdp

#endif  // ENGINE_MMU_HOST_PAGES_H_
