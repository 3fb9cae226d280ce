// How the rows walk: the one place that names the engine's walks.
//
// Thread safety: as TdpMmu's walks.

#ifndef ENGINE_BENCH_WALKS_H_
#define ENGINE_BENCH_WALKS_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "engine/mmu/tdp_mmu.h"

namespace tdp::bench {

// Frames of one read section.
inline constexpr size_t kRunFrames = 64;

// Walks every frame, a read section for each run of kRunFrames.
inline uint64_t WalkRuns(const TdpMmu& mmu, absl::Span<const uint64_t> gfns) {
  uint64_t sum = 0;
  mmu.WalkFrames(gfns, Prefetch::kNo, [&sum](size_t, const WalkedEntry& entry) {
    sum ^= entry.spte.raw();
  });
  return sum;
}

// The same, each run prefetched before it is walked.
inline uint64_t WalkRunsPrefetched(const TdpMmu& mmu,
                                   absl::Span<const uint64_t> gfns) {
  uint64_t sum = 0;
  mmu.WalkFrames(
      gfns, Prefetch::kYes,
      [&sum](size_t, const WalkedEntry& entry) { sum ^= entry.spte.raw(); });
  return sum;
}

// A read section for each frame.
inline uint64_t WalkEach(const TdpMmu& mmu, absl::Span<const uint64_t> gfns) {
  uint64_t sum = 0;
  for (const uint64_t gfn : gfns) sum ^= mmu.WalkFrame(Gfn(gfn)).spte.raw();
  return sum;
}

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_WALKS_H_
