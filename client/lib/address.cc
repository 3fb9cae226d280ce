#include "client/lib/address.h"

#include <limits>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace tdp::client {
namespace {

constexpr uint64_t kMaxValue = std::numeric_limits<uint64_t>::max();
constexpr absl::string_view kGfnPrefix = "gfn:";

struct Unit {
  char suffix;
  int shift;
};
constexpr Unit kUnits[] = {{'T', 40}, {'G', 30}, {'M', 20}, {'K', 10}};

absl::Status Refuse(absl::string_view text, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" ", rule));
}

int TakeSuffix(absl::string_view& text) {
  if (text.empty()) return 0;
  const char last = absl::ascii_toupper(text.back());
  for (const Unit unit : kUnits) {
    if (unit.suffix != last) continue;
    text.remove_suffix(1);
    return unit.shift;
  }
  return 0;
}

bool AllDigits(absl::string_view text, bool hexadecimal) {
  if (text.empty()) return false;
  for (const unsigned char c : text) {
    if (hexadecimal ? !absl::ascii_isxdigit(c) : !absl::ascii_isdigit(c)) {
      return false;
    }
  }
  return true;
}

// Splits "A..B" and "A+B"; `separator` is empty where there is none.
struct Halves {
  absl::string_view left;
  absl::string_view separator;
  absl::string_view right;
};

Halves SplitRange(absl::string_view text) {
  for (const absl::string_view separator : {"..", "+"}) {
    const size_t at = text.find(separator);
    if (at == absl::string_view::npos) continue;
    return {text.substr(0, at), separator, text.substr(at + separator.size())};
  }
  return {text, "", ""};
}

}  // namespace

absl::StatusOr<uint64_t> ParseNumber(absl::string_view text) {
  absl::string_view digits = text;
  const int shift = TakeSuffix(digits);
  const bool hexadecimal =
      absl::ConsumePrefix(&digits, "0x") || absl::ConsumePrefix(&digits, "0X");
  if (!AllDigits(digits, hexadecimal)) {
    return Refuse(text,
                  "is no number; write e.g. 4096, 0x1000, 4K, 256M or 1G");
  }
  uint64_t value = 0;
  const bool fits = hexadecimal ? absl::SimpleHexAtoi(digits, &value)
                                : absl::SimpleAtoi(digits, &value);
  if (!fits || value > (kMaxValue >> shift)) {
    return Refuse(text, "does not fit into 64 bits");
  }
  return value << shift;
}

absl::StatusOr<int64_t> ParseSize(absl::string_view text) {
  const absl::StatusOr<uint64_t> value = ParseNumber(text);
  if (!value.ok()) return value.status();
  if (*value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Refuse(text, "is too large; at most 2^63 - 1 bytes");
  }
  return static_cast<int64_t>(*value);
}

absl::StatusOr<int64_t> ParseFrameCount(absl::string_view text) {
  const absl::StatusOr<int64_t> bytes = ParseSize(text);
  if (!bytes.ok()) return bytes.status();
  if (*bytes == 0) return Refuse(text, "is empty; at least 4K");
  if (*bytes % kFrameBytes != 0) {
    return Refuse(text, "is not 4K aligned");
  }
  return *bytes >> kFrameShift;
}

absl::StatusOr<uint64_t> ParseFrame(absl::string_view text) {
  absl::string_view number = text;
  const bool is_gfn = absl::ConsumePrefix(&number, kGfnPrefix);
  const absl::StatusOr<uint64_t> value = ParseNumber(number);
  if (!value.ok()) return value.status();
  return is_gfn ? *value : *value >> kFrameShift;
}

absl::StatusOr<uint64_t> ParseAlignedFrame(absl::string_view text) {
  if (!absl::StartsWith(text, kGfnPrefix)) {
    const absl::StatusOr<uint64_t> value = ParseNumber(text);
    if (!value.ok()) return value.status();
    if (*value % kFrameBytes != 0) return Refuse(text, "is not 4K aligned");
  }
  return ParseFrame(text);
}

absl::StatusOr<FrameRange> ParseFrameRange(absl::string_view text) {
  absl::string_view body = text;
  const bool in_frames = absl::ConsumePrefix(&body, kGfnPrefix);
  const Halves halves = SplitRange(body);
  if (halves.separator.empty()) {
    return Refuse(text,
                  "is no range; write START..END (END not included) or "
                  "START+SIZE, e.g. 0..64M");
  }
  const absl::StatusOr<uint64_t> left = ParseNumber(halves.left);
  if (!left.ok())
    return Refuse(text,
                  absl::StrCat("has a bad start: ", left.status().message()));
  const absl::StatusOr<uint64_t> right = ParseNumber(halves.right);
  if (!right.ok())
    return Refuse(text,
                  absl::StrCat("has a bad end: ", right.status().message()));
  uint64_t start = *left;
  uint64_t end = *right;
  if (!in_frames) {
    if (start % kFrameBytes != 0) {
      return Refuse(text, "has a start that is not 4K aligned");
    }
    if (end % kFrameBytes != 0) {
      return Refuse(text, "has an end that is not 4K aligned");
    }
    start >>= kFrameShift;
    end >>= kFrameShift;
  }
  if (halves.separator == "+") {
    const uint64_t limit =
        in_frames ? kMaxValue : uint64_t{1} << (64 - kFrameShift);
    if (end > limit - start) return Refuse(text, "ends past 2^64");
    end += start;
  }
  if (end == start) return Refuse(text, "is empty");
  if (end < start) return Refuse(text, "ends before it starts");
  return FrameRange{start, end};
}

bool LooksLikeRange(absl::string_view text) {
  return !SplitRange(text).separator.empty();
}

std::string FormatHex(uint64_t value) { return absl::StrFormat("0x%x", value); }

std::string FormatFrameAddress(uint64_t gfn) {
  if (gfn > (kMaxValue >> kFrameShift)) {
    return absl::StrCat(kGfnPrefix, FormatHex(gfn));
  }
  return FormatHex(gfn << kFrameShift);
}

std::string FormatFrameRange(FrameRange range) {
  return absl::StrCat(FormatFrameAddress(range.start_gfn), "..",
                      FormatFrameAddress(range.end_gfn));
}

std::string FormatSize(uint64_t bytes) {
  for (const Unit unit : kUnits) {
    const uint64_t size = uint64_t{1} << unit.shift;
    if (bytes >= size && bytes % size == 0) {
      return absl::StrCat(bytes >> unit.shift,
                          absl::string_view(&unit.suffix, 1));
    }
  }
  return absl::StrCat(bytes);
}

}  // namespace tdp::client
