// Runs of per-frame bits, between the API and the engine.

#ifndef SERVER_CONVERT_BITMAP_CONVERT_H_
#define SERVER_CONVERT_BITMAP_CONVERT_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/vm/vm_types.h"
#include "tdp/v1/types.pb.h"

namespace tdp::server {

void ToProto(FrameBitmap bitmap, v1::Bitmap* out);

// A bitmap of at most limits::kDirtyChunkFrames frames. Bits behind the last
// frame are dropped. Errors name fields below `field`, e.g. "dirty.bits".
absl::StatusOr<FrameBitmap> BitmapFrom(absl::string_view field,
                                       const v1::Bitmap& bitmap);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_BITMAP_CONVERT_H_
