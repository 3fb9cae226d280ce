// What tests ask an error.

#ifndef SERVER_TESTING_ERRORS_H_
#define SERVER_TESTING_ERRORS_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/errors.h"

namespace tdp::server {

// The reason of an error of ours; else the status as text.
inline std::string ReasonOf(const absl::Status& status) {
  const std::optional<ErrorDetail> detail = DetailOf(status);
  if (!detail.has_value()) return status.ToString();
  return std::string(NameOf(detail->reason));
}

// The value of `key` in the metadata of an error, or "".
inline std::string MetadataOf(const absl::Status& status,
                              absl::string_view key) {
  const std::optional<ErrorDetail> detail = DetailOf(status);
  if (!detail.has_value()) return "";
  for (const auto& [name, value] : detail->metadata) {
    if (name == key) return value;
  }
  return "";
}

// "FIELD_INVALID range.end_gfn" for a bad field, else the reason.
inline std::string FieldErrorOf(const absl::Status& status) {
  const std::string field = MetadataOf(status, "field");
  return field.empty() ? ReasonOf(status)
                       : absl::StrCat(ReasonOf(status), " ", field);
}

}  // namespace tdp::server

#endif  // SERVER_TESTING_ERRORS_H_
