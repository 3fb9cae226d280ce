#include "server/convert/bitmap_convert.h"

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "server/testing/errors.h"

namespace tdp::server {
namespace {

constexpr uint64_t kLastAligned = std::numeric_limits<uint64_t>::max() - 63;
constexpr int64_t kMaxFrames = int64_t{1} << 19;
constexpr int64_t kMaxBytes = int64_t{1} << 16;

v1::Bitmap Make(uint64_t first_gfn, int64_t frame_count, std::string bits) {
  v1::Bitmap bitmap;
  bitmap.set_first_gfn(first_gfn);
  bitmap.set_frame_count(frame_count);
  bitmap.set_bits(std::move(bits));
  return bitmap;
}

std::string ErrorOf(const v1::Bitmap& bitmap) {
  return FieldErrorOf(BitmapFrom("dirty", bitmap).status());
}

TEST(BitmapConvertTest, ComesBackAsItWas) {
  const v1::Bitmap bitmap = Make(128, 12, std::string("\x81\x0f", 2));
  const auto converted = BitmapFrom("dirty", bitmap);
  ASSERT_TRUE(converted.ok()) << converted.status();
  EXPECT_EQ(converted->first_gfn, Gfn(128));
  EXPECT_EQ(converted->frame_count, 12);
  EXPECT_EQ(converted->bits, bitmap.bits());
  v1::Bitmap back;
  ToProto(*converted, &back);
  EXPECT_EQ(back.DebugString(), bitmap.DebugString());
}

TEST(BitmapConvertTest, DropsBitsBehindTheLastFrame) {
  EXPECT_EQ(BitmapFrom("dirty", Make(0, 9, "\xff\xff"))->bits, "\xff\x01");
  EXPECT_EQ(BitmapFrom("dirty", Make(0, 15, "\xff\xff"))->bits, "\xff\x7f");
  EXPECT_EQ(BitmapFrom("dirty", Make(0, 16, "\xff\xff"))->bits, "\xff\xff");
}

TEST(BitmapConvertTest, TakesAtMostOneChunkOfADirtyLog) {
  EXPECT_TRUE(BitmapFrom("dirty", Make(64, 0, "")).ok());
  EXPECT_TRUE(
      BitmapFrom("dirty", Make(64, kMaxFrames, std::string(kMaxBytes, 'x')))
          .ok());
  EXPECT_EQ(ErrorOf(Make(64, kMaxFrames + 8, std::string(kMaxBytes + 1, 'x'))),
            "FIELD_INVALID dirty.bits");
}

TEST(BitmapConvertTest, RefusesAFirstFrameThatIsNotAligned) {
  for (const uint64_t first : {1, 32, 63, 65}) {
    EXPECT_EQ(ErrorOf(Make(first, 8, "x")), "FIELD_INVALID dirty.first_gfn")
        << first;
  }
}

TEST(BitmapConvertTest, RefusesBitsOfMoreOrFewerFramesThanItNames) {
  for (const int64_t count : {int64_t{-1}, int64_t{0}, int64_t{8}, int64_t{17},
                              std::numeric_limits<int64_t>::min(),
                              std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(ErrorOf(Make(0, count, "xx")), "FIELD_INVALID dirty.frame_count")
        << count;
  }
  EXPECT_EQ(ErrorOf(Make(0, 1, "")), "FIELD_INVALID dirty.frame_count");
  EXPECT_EQ(BitmapFrom("dirty", Make(0, 8, "xx")).status().message(),
            "field dirty.frame_count is 8; it must be 9 to 16, because there "
            "are 2 bytes of bits");
}

TEST(BitmapConvertTest, RefusesFramesBehindTheLastOne) {
  EXPECT_TRUE(
      BitmapFrom("dirty", Make(kLastAligned, 63, std::string(8, 'x'))).ok());
  EXPECT_EQ(ErrorOf(Make(kLastAligned, 64, std::string(8, 'x'))),
            "FIELD_INVALID dirty.first_gfn");
}

}  // namespace
}  // namespace tdp::server
