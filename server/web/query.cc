#include "server/web/query.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/errors.h"
#include "google/protobuf/stubs/common.h"
#include "server/base/status_macros.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

bool IsDigit(char c) { return '0' <= c && c <= '9'; }

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
  return 'a' <= lower && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Undoes percent encoding, and the + that forms have for a space. Nothing if it
// is broken, or if what comes out is no UTF-8 text.
std::optional<std::string> Decoded(absl::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      result += text[i] == '+' ? ' ' : text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = HexDigit(text[i + 1]);
    const int low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    result += static_cast<char>(high * 16 + low);
    i += 2;
  }
  if (!google::protobuf::internal::IsStructurallyValidUTF8(
          result.data(), static_cast<int>(result.size()))) {
    return std::nullopt;
  }
  return result;
}

}  // namespace

absl::StatusOr<Query> Query::Parse(
    absl::string_view text, std::initializer_list<absl::string_view> names) {
  Query query;
  if (text.empty()) return query;
  for (const absl::string_view part : absl::StrSplit(text, '&')) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    const std::string name(pair.first);
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return FieldError("query", Shown(name), "a parameter that is known here");
    }
    const std::optional<std::string> value = Decoded(pair.second);
    if (!value.has_value()) {
      return FieldError(name, Shown(pair.second),
                        "percent-encoded text in UTF-8");
    }
    if (!query.values_.emplace(name, *value).second) {
      return FieldError(name, Shown(*value), "there once");
    }
  }
  return query;
}

const std::string& Query::Text(absl::string_view name) const {
  static const std::string* const kEmpty = new std::string;
  const auto found = values_.find(name);
  return found == values_.end() ? *kEmpty : found->second;
}

absl::StatusOr<uint64_t> Query::Number(absl::string_view name, uint64_t min,
                                       uint64_t max, uint64_t otherwise) const {
  if (values_.find(name) == values_.end()) return otherwise;
  return Number(name, min, max);
}

absl::StatusOr<uint64_t> Query::Number(absl::string_view name, uint64_t min,
                                       uint64_t max) const {
  const std::string& text = Text(name);
  uint64_t value = 0;
  // Digits alone: no sign and no space.
  if (!std::all_of(text.begin(), text.end(), IsDigit) ||
      !absl::SimpleAtoi(text, &value) || value < min || value > max) {
    return FieldError(name, Shown(text),
                      absl::StrCat("a number from ", min, " to ", max));
  }
  return value;
}

}  // namespace tdp::server
