// Virtual machines, between the API and the engine.

#ifndef SERVER_CONVERT_VM_CONVERT_H_
#define SERVER_CONVERT_VM_CONVERT_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "engine/vm/vm_types.h"
#include "tdp/v1/vm_service.pb.h"

namespace tdp::server {

// Checks every field that CreateVm takes; names and output-only fields are
// ignored. Errors name fields below "vm.".
absl::StatusOr<VmConfig> VmConfigFrom(const v1::Vm& vm);
// Checks count and size.
absl::StatusOr<std::map<std::string, std::string>> LabelsFrom(const v1::Vm& vm);

void ToProto(const VmInfo& info, v1::Vm* out);
v1::Vm::State ToProto(VmState state);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_VM_CONVERT_H_
