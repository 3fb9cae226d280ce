// Addresses, sizes and frame ranges as people write them.
//
// A number is decimal or 0x-hexadecimal, with a suffix K, M, G or T for 2^10,
// 2^20, 2^30 or 2^40. Every parser refuses what it does not understand with a
// sentence that quotes the text.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_ADDRESS_H_
#define CLIENT_LIB_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tdp::client {

inline constexpr int kFrameShift = 12;
inline constexpr uint64_t kFrameBytes = uint64_t{1} << kFrameShift;

// [start_gfn, end_gfn), never empty when a parser returned it.
struct FrameRange {
  uint64_t start_gfn = 0;
  uint64_t end_gfn = 0;

  friend bool operator==(FrameRange, FrameRange) = default;
};

// Any number: "4096", "0x1000", "4K".
absl::StatusOr<uint64_t> ParseNumber(absl::string_view text);
// A size in bytes that fits the API's int64 fields: "0", "4096", "1G".
absl::StatusOr<int64_t> ParseSize(absl::string_view text);
// A size that is a whole, positive number of frames; returns frames.
absl::StatusOr<int64_t> ParseFrameCount(absl::string_view text);
// The frame that holds an address ("0x100123" gives 0x100), or "gfn:0x100".
absl::StatusOr<uint64_t> ParseFrame(absl::string_view text);
// As ParseFrame(), but the address must be 4K aligned.
absl::StatusOr<uint64_t> ParseAlignedFrame(absl::string_view text);
// "START..END" or "START+SIZE" in bytes, 4K aligned; the same in frames after
// "gfn:".
absl::StatusOr<FrameRange> ParseFrameRange(absl::string_view text);
// Whether `text` is meant as a range, right or wrong.
bool LooksLikeRange(absl::string_view text);

// "0x100000".
std::string FormatHex(uint64_t value);
// The address of a frame; "gfn:0x..." where the address passes 2^64.
std::string FormatFrameAddress(uint64_t gfn);
// "0x0..0x100000".
std::string FormatFrameRange(FrameRange range);
// The largest unit that divides: "64M", "4K", "4097".
std::string FormatSize(uint64_t bytes);

}  // namespace tdp::client

#endif  // CLIENT_LIB_ADDRESS_H_
