// Memslots, between the API and the engine.

#ifndef SERVER_CONVERT_MEMSLOT_CONVERT_H_
#define SERVER_CONVERT_MEMSLOT_CONVERT_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/vm/vm_types.h"
#include "google/protobuf/field_mask.pb.h"
#include "tdp/v1/memslot_service.pb.h"

namespace tdp::server {

// Checks every field that CreateMemslot takes, except what only the VM can
// know (overlaps, the highest frame). Errors name fields below "memslot.".
absl::StatusOr<MemslotConfig> MemslotConfigFrom(const v1::Memslot& memslot);
// The fields of `memslot` that `mask` names.
absl::StatusOr<MemslotUpdate> MemslotUpdateFrom(
    const v1::Memslot& memslot, const google::protobuf::FieldMask& mask);

void ToProto(absl::string_view vm, const MemslotInfo& info, v1::Memslot* out);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_MEMSLOT_CONVERT_H_
