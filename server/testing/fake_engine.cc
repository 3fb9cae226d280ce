// Gives a daemon that is linked with it the fake registry, so that tests can
// run the whole binary on a machine that can run no VM.

#include <memory>

#include "server/testing/fake_vm_registry.h"

namespace tdp {

absl::StatusOr<std::unique_ptr<VmRegistry>> VmRegistry::Create(
    const VmRegistryOptions& options) {
  return std::make_unique<server::FakeVmRegistry>(options);
}

}  // namespace tdp
