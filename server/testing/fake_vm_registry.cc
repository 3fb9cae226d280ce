#include "server/testing/fake_vm_registry.h"

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp::server {

FakeVmRegistry::FakeVmRegistry(const VmRegistryOptions& options)
    : capabilities_({{"kvm", false, "load kvm_intel"}}),
      limits_({{"max_vms", options.max_vms == 0 ? 64 : options.max_vms},
               {"max_gfn", (int64_t{1} << 34) - 1}}),
      default_hypervisor_(options.hypervisor == HypervisorKind::kUnspecified
                              ? HypervisorKind::kSoftware
                              : options.hypervisor) {}

FakeVmRegistry::~FakeVmRegistry() {
  // A callback of WaitVcpu() may hold the last reference to its VM, and goes on
  // the VM's own thread.
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, vm] : vms_) vm->EndThread();
  for (const std::shared_ptr<FakeVm>& vm : deleted_) vm->EndThread();
}

absl::StatusOr<VmInfo> FakeVmRegistry::CreateVm(absl::string_view id,
                                                const VmConfig& config,
                                                bool validate_only) {
  absl::MutexLock lock(&mutex_);
  if (vms_.contains(id)) return AlreadyExistsError(absl::StrCat("vms/", id));
  if (static_cast<int64_t>(vms_.size()) >= limits_.at("max_vms")) {
    return LimitError("max_vms", limits_.at("max_vms"), "delete a VM first");
  }
  VmConfig chosen = config;
  if (chosen.hypervisor == HypervisorKind::kUnspecified) {
    chosen.hypervisor = default_hypervisor_;
  }
  auto vm = std::make_shared<FakeVm>(id, chosen);
  const VmInfo info = vm->Describe();
  if (!validate_only) vms_.emplace(std::string(id), std::move(vm));
  return info;
}

absl::StatusOr<std::shared_ptr<Vm>> FakeVmRegistry::FindVm(
    absl::string_view id) const {
  absl::MutexLock lock(&mutex_);
  const auto found = vms_.find(id);
  if (found == vms_.end()) return NotFoundError(absl::StrCat("vms/", id));
  return std::shared_ptr<Vm>(found->second);
}

std::vector<VmInfo> FakeVmRegistry::ListVms() const {
  absl::MutexLock lock(&mutex_);
  std::vector<VmInfo> infos;
  for (const auto& [id, vm] : vms_) infos.push_back(vm->Describe());
  return infos;
}

absl::Status FakeVmRegistry::DeleteVm(absl::string_view id,
                                      absl::string_view etag) {
  std::shared_ptr<FakeVm> vm;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = vms_.find(id);
    if (found == vms_.end()) return NotFoundError(absl::StrCat("vms/", id));
    const VmInfo info = found->second->Describe();
    if (!etag.empty() && etag != info.etag) {
      return MakeError(ErrorReason::kEtagMismatch,
                       "the etag is stale; read the resource again");
    }
    if (info.state == VmState::kRunning || info.state == VmState::kPaused) {
      return MakeError(ErrorReason::kVmStateConflict,
                       absl::StrCat("vms/", id, " runs; stop it first"));
    }
    vm = std::move(found->second);
    vms_.erase(found);
    deleted_.push_back(vm);
  }
  vm->CloseForTest();
  return absl::OkStatus();
}

std::shared_ptr<FakeVm> FakeVmRegistry::MakeVmForTest(absl::string_view id,
                                                      int vcpu_count) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<FakeVm>& vm = vms_[std::string(id)];
  if (vm == nullptr) {
    VmConfig config;
    config.vcpu_count = vcpu_count;
    config.hypervisor = default_hypervisor_;
    vm = std::make_shared<FakeVm>(id, config);
  }
  return vm;
}

}  // namespace tdp::server
