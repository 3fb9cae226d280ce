#include "server/services/find_vm.h"

#include <utility>

#include "server/base/status_macros.h"
#include "server/convert/resource_names.h"

namespace tdp::server {

absl::StatusOr<NamedVm> FindVm(const VmRegistry& registry,
                               absl::string_view field,
                               absl::string_view name) {
  NamedVm result;
  TDP_ASSIGN_OR_RETURN(result.id, ParseVmName(field, name));
  TDP_ASSIGN_OR_RETURN(result.vm, registry.FindVm(result.id));
  return result;
}

}  // namespace tdp::server
