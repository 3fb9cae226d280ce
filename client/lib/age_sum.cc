#include "client/lib/age_sum.h"

#include <algorithm>
#include <cstdint>

namespace tdp::client {
namespace {

// A bitmap begins at a multiple of this many frames.
constexpr uint64_t kFramesPerWord = 64;
constexpr uint64_t kBitsPerByte = 8;

// Whether the bitmap has the bit of its frame `index`, and it is set.
bool IsSet(const v1::Bitmap& bitmap, uint64_t index) {
  const uint64_t byte = index / kBitsPerByte;
  if (byte >= bitmap.bits().size()) return false;
  return (static_cast<uint8_t>(bitmap.bits()[byte]) >> (index % kBitsPerByte)) &
         1;
}

// Frames that the bitmap has bits for.
uint64_t FrameCount(const v1::Bitmap& bitmap) {
  const uint64_t room = bitmap.bits().size() * kBitsPerByte;
  return bitmap.frame_count() < 0
             ? 0
             : std::min(room, static_cast<uint64_t>(bitmap.frame_count()));
}

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

void ForEachRun(const v1::Bitmap& bitmap,
                absl::FunctionRef<void(FrameRange)> run) {
  const uint64_t count = FrameCount(bitmap);
  uint64_t index = 0;
  while (index < count) {
    if (!IsSet(bitmap, index)) {
      ++index;
      continue;
    }
    const uint64_t start = index;
    while (index < count && IsSet(bitmap, index)) ++index;
    run({bitmap.first_gfn() + start, bitmap.first_gfn() + index});
  }
}

}  // namespace tdp::client
