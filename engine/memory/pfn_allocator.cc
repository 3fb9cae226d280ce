#include "engine/memory/pfn_allocator.h"

#include <cstdlib>

#include "engine/base/errors.h"

namespace tdp {

absl::StatusOr<Pfn> PfnAllocator::Allocate(Gfn base_gfn, uint64_t frame_count) {
  constexpr uint64_t kMask = kCongruence - 1;
  const uint64_t offset = base_gfn.value() & kMask;
  MutexLock lock(mutex_);
  // The first kCongruence frames stay unused: frame 0 names nothing.
  uint64_t candidate = kCongruence + offset;
  for (const auto& [start, range] : ranges_) {
    if (candidate < start && frame_count < start - candidate) break;
    // One frame of gap, then up to the next congruent one.
    const uint64_t after = range.end + 1;
    if (candidate < after) {
      candidate = after + ((offset - after) & kMask);
    }
  }
  if (candidate >= kPfnCount || frame_count > kPfnCount - candidate) {
    return LimitError("backing_frames", static_cast<int64_t>(kPfnCount),
                      "delete memslots of the VM or choose smaller ones");
  }
  ranges_.emplace(candidate, Range{candidate + frame_count, false});
  return Pfn(candidate);
}

void PfnAllocator::Release(Pfn start) {
  MutexLock lock(mutex_);
  const auto found = ranges_.find(start.value());
  if (found == ranges_.end() || found->second.released) abort();
  found->second.released = true;
}

void PfnAllocator::Recycle(Pfn start) {
  MutexLock lock(mutex_);
  const auto found = ranges_.find(start.value());
  if (found == ranges_.end() || !found->second.released) abort();
  ranges_.erase(found);
}

}  // namespace tdp
