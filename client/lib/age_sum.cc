#include "client/lib/age_sum.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "client/lib/bitmap.h"

namespace tdp::client {
namespace {

// A bitmap begins at a multiple of this many frames.
constexpr uint64_t kFramesPerWord = 64;
constexpr uint64_t kBitsPerByte = 8;

}  // namespace

void AddAge(const v1::AgeRangeResponse& part, FrameRange range,
            v1::AgeRangeResponse& sum) {
  sum.set_next_gfn(part.next_gfn());
  sum.set_young_frame_count(sum.young_frame_count() + part.young_frame_count());
  if (!part.has_young()) return;
  const uint64_t first = range.start_gfn - range.start_gfn % kFramesPerWord;
  const uint64_t end =
      std::max(first, std::min(range.end_gfn, part.next_gfn()));
  v1::Bitmap& joined = *sum.mutable_young();
  joined.set_first_gfn(first);
  joined.set_frame_count(static_cast<int64_t>(end - first));
  std::string& bits = *joined.mutable_bits();
  bits.resize((end - first + kBitsPerByte - 1) / kBitsPerByte);
  ForEachRun(part.young(), [&](FrameRange run) {
    const uint64_t run_end = std::min(run.end_gfn, end);
    for (uint64_t gfn = std::max(run.start_gfn, range.start_gfn); gfn < run_end;
         ++gfn) {
      const uint64_t index = gfn - first;
      bits[index / kBitsPerByte] |=
          static_cast<char>(1 << index % kBitsPerByte);
    }
  });
}

}  // namespace tdp::client
