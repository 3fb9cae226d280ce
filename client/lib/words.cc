#include "client/lib/words.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "client/lib/address.h"

namespace tdp::client {

std::string EnumText(absl::string_view value_name, absl::string_view prefix) {
  absl::ConsumePrefix(&value_name, prefix);
  if (value_name == "UNSPECIFIED" || value_name.empty()) return "-";
  return std::string(value_name);
}

std::string CountText(int64_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

std::string CountText(int64_t count, absl::string_view singular,
                      absl::string_view plural) {
  return absl::StrCat(count, " ", count == 1 ? singular : plural);
}

std::string FramesText(int64_t count) {
  return absl::StrCat(CountText(count, "frame"), " (",
                      FormatSize(static_cast<uint64_t>(count) << kFrameShift),
                      ")");
}

std::string RoundSizeText(uint64_t bytes) {
  constexpr char kSuffixes[] = "KMGTPE";
  if (bytes < 1024) return absl::StrCat(bytes);
  double size = static_cast<double>(bytes);
  size_t unit = 0;
  // What would be rounded up to 1024.0 is 1.0 of the next unit.
  for (size /= 1024; size >= 1023.95; size /= 1024) ++unit;
  return absl::StrFormat("%.1f%c", size, kSuffixes[unit]);
}

std::string ShareText(int64_t part, int64_t whole) {
  if (whole <= 0) return "-";
  return absl::StrFormat(
      "%.1f%%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

}  // namespace tdp::client
