// FakeVmRegistry: a VmRegistry of FakeVms.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_TESTING_FAKE_VM_REGISTRY_H_
#define SERVER_TESTING_FAKE_VM_REGISTRY_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "engine/vm/vm_registry.h"
#include "server/testing/fake_vm.h"

namespace tdp::server {

class FakeVmRegistry final : public VmRegistry {
 public:
  explicit FakeVmRegistry(const VmRegistryOptions& options = {});
  ~FakeVmRegistry() override;

  const std::vector<HostCapability>& capabilities() const override {
    return capabilities_;
  }
  const std::map<std::string, int64_t>& limits() const override {
    return limits_;
  }
  HypervisorKind default_hypervisor() const override {
    return default_hypervisor_;
  }
  absl::StatusOr<VmInfo> CreateVm(absl::string_view id, const VmConfig& config,
                                  bool validate_only) override;
  absl::StatusOr<std::shared_ptr<Vm>> FindVm(
      absl::string_view id) const override;
  std::vector<VmInfo> ListVms() const override;
  absl::Status DeleteVm(absl::string_view id, absl::string_view etag) override;

  // The VM, created if need be, with one vCPU and no memslot.
  std::shared_ptr<FakeVm> MakeVmForTest(absl::string_view id,
                                        int vcpu_count = 1);

 private:
  const std::vector<HostCapability> capabilities_;
  const std::map<std::string, int64_t> limits_;
  const HypervisorKind default_hypervisor_;
  mutable absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<FakeVm>, std::less<>> vms_
      ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<FakeVm>> deleted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp::server

#endif  // SERVER_TESTING_FAKE_VM_REGISTRY_H_
