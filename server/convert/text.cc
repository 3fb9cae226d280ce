#include "server/convert/text.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace tdp::server {
namespace {

constexpr size_t kShownBytes = 64;

bool IsContinuationByte(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

}  // namespace

std::string Shown(absl::string_view text) {
  if (text.empty()) return "";
  return absl::StrCat("\"", absl::Utf8SafeCEscape(Clipped(text, kShownBytes)),
                      "\"");
}

std::string Clipped(absl::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return std::string(text);
  size_t end = max_bytes - 3;
  while (end > 0 && IsContinuationByte(text[end])) --end;
  return absl::StrCat(text.substr(0, end), "...");
}

}  // namespace tdp::server
