#include "client/lib/words.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tdp::client {

std::string EnumText(absl::string_view value_name, absl::string_view prefix) {
  absl::ConsumePrefix(&value_name, prefix);
  if (value_name == "UNSPECIFIED" || value_name.empty()) return "-";
  return std::string(value_name);
}

std::string CountText(int64_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

}  // namespace tdp::client
