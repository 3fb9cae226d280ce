#include "server/convert/update_mask.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/errors.h"
#include "server/convert/text.h"

namespace tdp::server {

absl::StatusOr<std::set<std::string>> ParseUpdateMask(
    const google::protobuf::FieldMask& mask,
    const google::protobuf::Descriptor& resource,
    const std::vector<absl::string_view>& mutable_fields) {
  const std::string rule = absl::StrCat("\"*\" or some of the mutable fields: ",
                                        absl::StrJoin(mutable_fields, ", "));
  if (mask.paths().empty()) return FieldError("update_mask", "", rule);

  std::set<std::string> fields;
  for (const std::string& path : mask.paths()) {
    if (path == "*") {
      for (absl::string_view field : mutable_fields) fields.emplace(field);
      continue;
    }
    if (std::find(mutable_fields.begin(), mutable_fields.end(), path) !=
        mutable_fields.end()) {
      fields.insert(path);
      continue;
    }
    const bool known = resource.FindFieldByName(path) != nullptr;
    return FieldError(
        "update_mask",
        absl::StrCat(Shown(path), known ? ", which cannot be written"
                                        : ", which is no field"),
        rule);
  }
  return fields;
}

}  // namespace tdp::server
