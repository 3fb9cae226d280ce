#include "client/lib/words.h"

#include "absl/strings/str_cat.h"
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

}  // namespace tdp::client
