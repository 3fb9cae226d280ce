#include "engine/vm/vm_registry.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/kvm/kvm.h"
#include "engine/kvm/kvm_system_calls.h"
#include "engine/kvm/vcpu_kicker.h"
#include "engine/memory/huge_pages.h"
#include "engine/memory/userfaultfd_support.h"
#include "engine/paging/page_table_budget.h"
#include "engine/sync/mutex.h"
#include "engine/vm/guarded_touch.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

// Descriptors that the daemon needs beside those of its memslots.
constexpr int64_t kReservedDescriptors = 256;
// A memslot holds its memfd, its userfaultfd and perhaps its source.
constexpr int64_t kDescriptorsPerMemslot = 3;

// Mappings that the daemon needs beside those of its memslots: the heap,
// stacks, and for each vCPU a refused page, which cuts a window in three.
constexpr int64_t kReservedMappings = 4096;
// Window, alias, what is known of its frames, and bitmaps of its dirty log.
constexpr int64_t kMappingsPerMemslot = 8 + limits::kMaxDirtyConsumers;

// What sysctl vm.max_map_count allows.
int64_t MappingLimit() {
  constexpr int64_t kKernelDefault = 65530;
  int64_t limit = 0;
  std::ifstream file("/proc/sys/vm/max_map_count");
  return file >> limit ? limit : kKernelDefault;
}

// Raises the soft limit as far as it goes and returns it.
int64_t RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  // If it stays as it is, the lower figure counts.
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  }
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, 1 << 20));
}

// Tables of 4K leaves for 32 times the host's memory.
int64_t DefaultPageTableBudget() {
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  return std::max(pages * static_cast<int64_t>(kPageSize) / 16,
                  limits::kMinPageTableBudgetBytes);
}

class VmRegistryImpl final : public VmRegistry {
 public:
  explicit VmRegistryImpl(const VmRegistryOptions& options)
      : options_(options),
        rcu_(limits::kMaxRetiredBytes),
        page_table_budget_(options.max_page_table_bytes > 0
                               ? options.max_page_table_bytes
                               : DefaultPageTableBudget()) {}

  ~VmRegistryImpl() override {
    for (auto& [id, vm] : vms_) {
      vm->TearDown("", /*force=*/true).IgnoreError();
    }
  }

  absl::Status Init();

  const std::vector<HostCapability>& capabilities() const override {
    return capabilities_;
  }
  const std::map<std::string, int64_t>& limits() const override {
    return limits_;
  }
  HypervisorKind default_hypervisor() const override {
    return kvm_ != nullptr ? HypervisorKind::kKvm : HypervisorKind::kSoftware;
  }

  absl::StatusOr<VmInfo> CreateVm(absl::string_view id, const VmConfig& config,
                                  bool validate_only) override;
  absl::StatusOr<std::shared_ptr<Vm>> FindVm(
      absl::string_view id) const override;
  std::vector<VmInfo> ListVms() const override;
  absl::Status DeleteVm(absl::string_view id, absl::string_view etag) override;

 private:
  absl::Status OpenKvm();
  void DescribeLimits();
  VmEnvironment environment();
  static std::string NameOf(absl::string_view id) {
    return absl::StrCat("vms/", id);
  }

  const VmRegistryOptions options_;
  RcuDomain rcu_;
  PageTableBudget page_table_budget_;
  std::unique_ptr<Kvm> kvm_;
  std::vector<HostCapability> capabilities_;
  std::map<std::string, int64_t> limits_;

  // Held while a VM is created, which takes a while; lookups do not need it.
  Mutex create_mutex_;
  mutable Mutex mutex_ ABSL_ACQUIRED_AFTER(create_mutex_);
  std::map<std::string, std::shared_ptr<VmImpl>> vms_ ABSL_GUARDED_BY(mutex_);
};

absl::Status VmRegistryImpl::Init() {
  if (absl::Status s = OpenKvm(); !s.ok()) return s;
  const UserfaultfdSupport support =
      ProbeUserfaultfd({.origin = kvm_ != nullptr ? FaultOrigin::kKernelAndUser
                                                  : FaultOrigin::kUserOnly});
  for (const UserfaultfdFeature& feature : support.features) {
    capabilities_.push_back({feature.name, feature.available, feature.hint});
  }
  if (!support.Complete()) return UserfaultfdMissingError(support);
  const HugePageSupport huge_pages = ProbeHugePages();
  capabilities_.push_back({"hugetlb", huge_pages.available, huge_pages.hint});
  const bool membarrier = RcuDomain::UsesMembarrier();
  capabilities_.push_back(
      {"membarrier", membarrier,
       membarrier ? ""
                  : "membarrier(2) is refused, which makes every page-table "
                    "walk some twenty times slower; allow it in the seccomp "
                    "filter of the daemon"});
  // liburcu makes its worker at its first use, and a thread inherits the
  // priority of the one that makes it: not of one that runs bulk work.
  rcu_.Barrier();
  if (absl::Status s = InstallKickSignal(); !s.ok()) return s;
  if (absl::Status s = InstallGuardedTouch(); !s.ok()) return s;
  DescribeLimits();
  return absl::OkStatus();
}

absl::Status VmRegistryImpl::OpenKvm() {
  absl::StatusOr<std::unique_ptr<Kvm>> kvm =
      Kvm::Open(MakeHostKvmSystemCalls());
  const std::vector<KvmCapability> found =
      kvm.ok() ? (*kvm)->capabilities()
               : Kvm::CapabilitiesWithout(kvm.status());
  for (const KvmCapability& capability : found) {
    capabilities_.push_back(
        {capability.name, capability.available, capability.hint});
  }
  if (!kvm.ok() && options_.hypervisor == HypervisorKind::kKvm) {
    return kvm.status();
  }
  const bool software = options_.hypervisor == HypervisorKind::kSoftware;
  if (kvm.ok() && !software) kvm_ = *std::move(kvm);
  capabilities_.push_back(
      {"hypervisor.kvm", kvm_ != nullptr,
       kvm_ != nullptr ? ""
       : software      ? "the daemon was started with --hypervisor=software, "
                         "so VMs run on the software hypervisor; start it with "
                         "--hypervisor=auto"
                       : "KVM does not work here (see \"kvm\"), so VMs run on "
                         "the software hypervisor"});
  return absl::OkStatus();
}

void VmRegistryImpl::DescribeLimits() {
  int64_t max_memslots = std::min(
      (RaiseDescriptorLimit() - kReservedDescriptors) / kDescriptorsPerMemslot,
      (MappingLimit() - kReservedMappings) / kMappingsPerMemslot);
  max_memslots =
      std::clamp<int64_t>(max_memslots, 16, limits::kMaxMemslotsPerVm);
  int64_t max_gfn = static_cast<int64_t>(FramesOfRoot(PageLevel::k512G)) - 1;
  if (kvm_ != nullptr) {
    // Slot 0 of KVM is the daemon's own.
    max_memslots = std::min<int64_t>(max_memslots, kvm_->memslot_count() - 1);
    max_gfn = std::min(max_gfn,
                       static_cast<int64_t>(
                           MaxUserGfn(kvm_->physical_address_bits()).value()));
  }
  limits_ = {
      {"max_vms", options_.max_vms > 0 ? options_.max_vms : limits::kMaxVms},
      {"max_vcpus_per_vm", limits::kMaxVcpusPerVm},
      {"max_memslots", max_memslots},
      {"max_memslot_frames", limits::kMaxMemslotFrames},
      {"max_gfn", max_gfn},
      {"default_page_table_limit_bytes",
       DefaultPageTableLimit(&page_table_budget_)},
      {"min_page_table_limit_bytes", limits::kMinPageTableLimitBytes},
      {"max_page_table_bytes", page_table_budget_.limit_bytes()},
      {"max_code_bytes", limits::kMaxCodeBytes},
      {"max_console_bytes", limits::kMaxConsoleBytes},
      {"max_labels", limits::kMaxLabels},
      {"max_label_bytes", limits::kMaxLabelBytes},
      {"max_walk_frames", limits::kMaxWalkFrames},
      {"max_map_around_frames", limits::kMaxMapAroundFrames},
      {"max_dirty_consumers", limits::kMaxDirtyConsumers},
      {"min_scan_interval_ms", limits::kMinScanIntervalMs},
      {"max_scan_interval_ms", limits::kMaxScanIntervalMs},
      {"max_age_bitmap_frames", limits::kMaxAgeBitmapFrames},
      {"max_batch_operations", limits::kMaxBatchOperations},
      {"max_batch_frames", limits::kMaxBatchFrames},
      {"max_protected_ranges", limits::kMaxProtectedRanges},
      {"max_write_chunk_bytes", limits::kMaxWriteChunkBytes},
      {"max_request_bytes", limits::kMaxRequestBytes},
      {"max_kept_events", limits::kMaxKeptEvents},
      {"max_request_ids", limits::kMaxRequestIds},
      {"max_page_size", limits::kMaxPageSize},
      {"max_divergences", limits::kMaxDivergences},
      {"max_retired_bytes", limits::kMaxRetiredBytes},
  };
}

VmEnvironment VmRegistryImpl::environment() {
  return {.rcu = &rcu_,
          .page_table_budget = &page_table_budget_,
          .kvm = kvm_.get(),
          .image_dir = options_.image_dir,
          .max_memslots = limits_.at("max_memslots")};
}

absl::StatusOr<VmInfo> VmRegistryImpl::CreateVm(absl::string_view id,
                                                const VmConfig& wanted,
                                                bool validate_only) {
  const absl::StatusOr<VmConfig> config =
      VmImpl::CheckConfig(environment(), wanted);
  if (!config.ok()) return config.status();
  MutexLock create_lock(create_mutex_);
  {
    MutexLock lock(mutex_);
    if (vms_.contains(std::string(id))) return AlreadyExistsError(NameOf(id));
    const int64_t max_vms = limits_.at("max_vms");
    if (static_cast<int64_t>(vms_.size()) >= max_vms) {
      return LimitError("max_vms", max_vms,
                        max_vms < limits::kMaxVms
                            ? "delete a VM, or start the daemon with a larger "
                              "--max_vms"
                            : "delete a VM");
    }
  }
  if (validate_only) {
    return VmInfo{.id = std::string(id), .config = *config};
  }
  absl::StatusOr<std::shared_ptr<VmImpl>> vm =
      VmImpl::Create(environment(), id, *config);
  if (!vm.ok()) return vm.status();
  const VmInfo info = (*vm)->Describe();
  MutexLock lock(mutex_);
  vms_.emplace(id, *std::move(vm));
  return info;
}

absl::StatusOr<std::shared_ptr<Vm>> VmRegistryImpl::FindVm(
    absl::string_view id) const {
  MutexLock lock(mutex_);
  const auto it = vms_.find(std::string(id));
  if (it == vms_.end()) return NotFoundError(NameOf(id));
  return std::shared_ptr<Vm>(it->second);
}

std::vector<VmInfo> VmRegistryImpl::ListVms() const {
  MutexLock lock(mutex_);
  std::vector<VmInfo> all;
  for (const auto& [id, vm] : vms_) all.push_back(vm->Describe());
  return all;
}

absl::Status VmRegistryImpl::DeleteVm(absl::string_view id,
                                      absl::string_view etag) {
  std::shared_ptr<VmImpl> vm;
  {
    MutexLock lock(mutex_);
    const auto it = vms_.find(std::string(id));
    if (it == vms_.end()) return NotFoundError(NameOf(id));
    vm = it->second;
  }
  // The name stays taken until the VM has let go of the host's resources.
  if (absl::Status s = vm->TearDown(etag, /*force=*/false); !s.ok()) return s;
  MutexLock lock(mutex_);
  vms_.erase(std::string(id));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<VmRegistry>> VmRegistry::Create(
    const VmRegistryOptions& options) {
  auto registry = std::make_unique<VmRegistryImpl>(options);
  if (absl::Status s = registry->Init(); !s.ok()) return s;
  return absl::StatusOr<std::unique_ptr<VmRegistry>>(std::move(registry));
}

}  // namespace tdp
