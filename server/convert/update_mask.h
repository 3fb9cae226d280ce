// Update masks: which fields an Update method writes.
//
// Strict: a path that is no field, or one that cannot be written, is refused by
// name. "*" stands for every mutable field.

#ifndef SERVER_CONVERT_UPDATE_MASK_H_
#define SERVER_CONVERT_UPDATE_MASK_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/field_mask.pb.h"

namespace tdp::server {

// Returns the fields to write, a non-empty subset of `mutable_fields`, which
// are fields of `resource`.
absl::StatusOr<std::set<std::string>> ParseUpdateMask(
    const google::protobuf::FieldMask& mask,
    const google::protobuf::Descriptor& resource,
    const std::vector<absl::string_view>& mutable_fields);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_UPDATE_MASK_H_
