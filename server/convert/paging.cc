#include "server/convert/paging.h"

#include <algorithm>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "server/base/status_macros.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

// First part of every token: tells a token of ours from anything else.
constexpr absl::string_view kTokenMark = "tdp1";

absl::Status TokenError(absl::string_view token) {
  return FieldError("page_token", Shown(token),
                    "the next_page_token of the previous response to the same "
                    "list, or empty for the first page");
}

}  // namespace

absl::StatusOr<size_t> ParsePageSize(int32_t page_size) {
  if (page_size < 0) {
    return FieldError("page_size", absl::StrCat(page_size), "0 or more");
  }
  if (page_size == 0) return static_cast<size_t>(limits::kDefaultPageSize);
  return static_cast<size_t>(
      std::min<int64_t>(page_size, limits::kMaxPageSize));
}

std::string MakePageToken(absl::string_view list, absl::string_view key) {
  return absl::WebSafeBase64Escape(
      absl::StrCat(kTokenMark, ":", list, ":", key));
}

absl::StatusOr<std::optional<std::string>> ParsePageToken(
    absl::string_view list, absl::string_view token) {
  if (token.empty()) return std::optional<std::string>();
  std::string text;
  if (!absl::WebSafeBase64Unescape(token, &text)) return TokenError(token);
  const std::vector<std::string> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 2));
  if (parts.size() != 3 || parts[0] != kTokenMark || parts[1] != list ||
      parts[2].empty()) {
    return TokenError(token);
  }
  return std::optional<std::string>(parts[2]);
}

absl::StatusOr<std::optional<uint64_t>> ParseNumericPageToken(
    absl::string_view list, absl::string_view token) {
  TDP_ASSIGN_OR_RETURN(const std::optional<std::string> key,
                       ParsePageToken(list, token));
  if (!key.has_value()) return std::optional<uint64_t>();
  uint64_t number = 0;
  if (!absl::SimpleAtoi(*key, &number)) return TokenError(token);
  return std::optional<uint64_t>(number);
}

bool PageBudget::Take(size_t bytes) {
  if (items_left_ == 0) return false;
  if (bytes_ > 0 && bytes_ + bytes > kMaxPageBytes) return false;
  --items_left_;
  bytes_ += bytes;
  return true;
}

}  // namespace tdp::server
