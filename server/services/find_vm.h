// The first step of most methods: from a resource name to the VM.

#ifndef SERVER_SERVICES_FIND_VM_H_
#define SERVER_SERVICES_FIND_VM_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/vm/vm_registry.h"

namespace tdp::server {

struct NamedVm {
  std::string id;
  std::shared_ptr<Vm> vm;

  Vm* operator->() const { return vm.get(); }
};

// `name` is the value of `field`, a name of the form vms/{vm}.
absl::StatusOr<NamedVm> FindVm(const VmRegistry& registry,
                               absl::string_view field, absl::string_view name);

}  // namespace tdp::server

#endif  // SERVER_SERVICES_FIND_VM_H_
