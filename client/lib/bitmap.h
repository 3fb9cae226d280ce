// Bitmaps of frames, as the API sends them: their runs, and what of them lies
// in a range.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_BITMAP_H_
#define CLIENT_LIB_BITMAP_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "client/lib/address.h"
#include "tdp/v1/types.pb.h"

namespace tdp::client {

// Calls `run` with each longest run of frames whose bits are set, in order. A
// run may go across bitmaps that follow each other; they are in order, too.
void ForEachRun(absl::Span<const v1::Bitmap> bitmaps,
                absl::FunctionRef<void(FrameRange)> run);
void ForEachRun(const v1::Bitmap& bitmap,
                absl::FunctionRef<void(FrameRange)> run);

// How many bits are set.
int64_t CountBits(const v1::Bitmap& bitmap);

void ClearBitsOutside(FrameRange range, v1::Bitmap& bitmap);

}  // namespace tdp::client

#endif  // CLIENT_LIB_BITMAP_H_
