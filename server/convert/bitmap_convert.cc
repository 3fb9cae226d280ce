#include "server/convert/bitmap_convert.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"

namespace tdp::server {
namespace {

constexpr int64_t kMaxBytes = limits::kDirtyChunkFrames / 8;
constexpr uint64_t kFirstGfnAlignment = 64;

}  // namespace

void ToProto(FrameBitmap bitmap, v1::Bitmap* out) {
  out->set_first_gfn(bitmap.first_gfn.value());
  out->set_frame_count(bitmap.frame_count);
  out->set_bits(std::move(bitmap.bits));
}

absl::StatusOr<FrameBitmap> BitmapFrom(absl::string_view field,
                                       const v1::Bitmap& bitmap) {
  const uint64_t first = bitmap.first_gfn();
  if (first % kFirstGfnAlignment != 0) {
    return FieldError(absl::StrCat(field, ".first_gfn"), Hex(first),
                      absl::StrCat("a multiple of ", kFirstGfnAlignment));
  }
  const int64_t bytes = static_cast<int64_t>(bitmap.bits().size());
  if (bytes > kMaxBytes) {
    return FieldError(absl::StrCat(field, ".bits"),
                      absl::StrCat(bytes, " bytes"),
                      absl::StrCat("at most ", kMaxBytes, " bytes"));
  }
  const int64_t most = bytes * 8;
  const int64_t least = std::max<int64_t>(most - 7, 0);
  const int64_t count = bitmap.frame_count();
  if (count < least || count > most) {
    return FieldError(absl::StrCat(field, ".frame_count"), absl::StrCat(count),
                      absl::StrCat(least, " to ", most, ", because there are ",
                                   bytes, " bytes of bits"));
  }
  if (static_cast<uint64_t>(count) >
      std::numeric_limits<uint64_t>::max() - first) {
    return FieldError(
        absl::StrCat(field, ".first_gfn"), Hex(first),
        absl::StrCat("small enough that ", count, " frames end below 2^64"));
  }
  FrameBitmap result{Gfn(first), count, bitmap.bits()};
  if (count < most) {
    result.bits.back() &= static_cast<char>((1 << (count % 8)) - 1);
  }
  return result;
}

}  // namespace tdp::server
