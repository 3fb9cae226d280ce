// PfnAllocator: hands out the ranges of backing frames that name a VM's
// memslots in its page tables.
//
// Invariants: a range is congruent to its memslot's first frame modulo 2^18, so
// that every huge leaf that the memslot's alignment allows is legal. Between
// two ranges lies at least one frame that belongs to none, so that no leaf can
// seem to continue into another memslot. A released range is quarantined: it
// is not handed out again before Recycle(), because retired tables and
// invalidated roots may still name it.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_MEMORY_PFN_ALLOCATOR_H_
#define ENGINE_MEMORY_PFN_ALLOCATOR_H_

#include <cstdint>
#include <map>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "engine/base/types.h"
#include "engine/sync/mutex.h"

namespace tdp {

class PfnAllocator {
 public:
  // An entry holds a PFN in bits 51:12.
  static constexpr uint64_t kPfnCount = uint64_t{1} << 40;
  // Alignment of the largest leaf.
  static constexpr uint64_t kCongruence = FramesPerEntry(kMaxLeafLevel);

  PfnAllocator() = default;
  PfnAllocator(const PfnAllocator&) = delete;
  PfnAllocator& operator=(const PfnAllocator&) = delete;

  // Returns the first frame of a range for a memslot at `base_gfn`.
  // REQUIRES: frame_count > 0.
  absl::StatusOr<Pfn> Allocate(Gfn base_gfn, uint64_t frame_count);

  // Quarantines the range that starts at `start`. REQUIRES: it is allocated.
  void Release(Pfn start);

  // Lets the range be handed out again: no entry anywhere names it any more.
  // REQUIRES: it is released.
  void Recycle(Pfn start);

 private:
  struct Range {
    uint64_t end;
    bool released;
  };

  Mutex mutex_;
  // By first frame: what is allocated or quarantined.
  std::map<uint64_t, Range> ranges_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_PFN_ALLOCATOR_H_
