// vCPUs and guests, between the API and the engine.

#ifndef SERVER_CONVERT_VCPU_CONVERT_H_
#define SERVER_CONVERT_VCPU_CONVERT_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/vm/vm_types.h"
#include "tdp/v1/vcpu_service.pb.h"

namespace tdp::server {

// Errors name fields below "guest.".
absl::StatusOr<GuestConfig> GuestFrom(const v1::Guest& guest);

void ToProto(absl::string_view vm, const VcpuInfo& info, v1::Vcpu* out);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_VCPU_CONVERT_H_
