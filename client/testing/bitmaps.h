// Bitmaps of frames for tests: built from bytes, and read back as runs.

#ifndef CLIENT_TESTING_BITMAPS_H_
#define CLIENT_TESTING_BITMAPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "client/lib/bitmap.h"
#include "tdp/v1/types.pb.h"

namespace tdp::client {

inline v1::Bitmap MakeBitmap(uint64_t first_gfn, int64_t frame_count,
                             const std::string& bits) {
  v1::Bitmap bitmap;
  bitmap.set_first_gfn(first_gfn);
  bitmap.set_frame_count(frame_count);
  bitmap.set_bits(bits);
  return bitmap;
}

inline std::vector<FrameRange> RunsOf(const v1::Bitmap& bitmap) {
  std::vector<FrameRange> runs;
  ForEachRun(bitmap, [&](FrameRange run) { runs.push_back(run); });
  return runs;
}

}  // namespace tdp::client

#endif  // CLIENT_TESTING_BITMAPS_H_
