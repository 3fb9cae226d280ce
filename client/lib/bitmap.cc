#include "client/lib/bitmap.h"

#include <algorithm>
#include <string>

namespace tdp::client {
namespace {

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

void ForEachRun(absl::Span<const v1::Bitmap> bitmaps,
                absl::FunctionRef<void(FrameRange)> run) {
  FrameRange open;  // may go on in the next bitmap; empty if there is none
  for (const v1::Bitmap& bitmap : bitmaps) {
    ForEachRun(bitmap, [&](FrameRange part) {
      if (open.start_gfn < open.end_gfn) {
        if (part.start_gfn == open.end_gfn) {
          open.end_gfn = part.end_gfn;
          return;
        }
        run(open);
      }
      open = part;
    });
  }
  if (open.start_gfn < open.end_gfn) run(open);
}

int64_t CountBits(const v1::Bitmap& bitmap) {
  uint64_t count = 0;
  ForEachRun(bitmap,
             [&](FrameRange run) { count += run.end_gfn - run.start_gfn; });
  return static_cast<int64_t>(count);
}

void ClearBitsOutside(FrameRange range, v1::Bitmap& bitmap) {
  std::string& bits = *bitmap.mutable_bits();
  for (size_t byte = 0; byte < bits.size(); ++byte) {
    if (bits[byte] == 0) continue;
    const uint64_t first = bitmap.first_gfn() + byte * kBitsPerByte;
    for (uint64_t bit = 0; bit < kBitsPerByte; ++bit) {
      const uint64_t gfn = first + bit;
      if (gfn >= range.start_gfn && gfn < range.end_gfn) continue;
      bits[byte] &= static_cast<char>(~(1 << bit));
    }
  }
}

}  // namespace tdp::client
