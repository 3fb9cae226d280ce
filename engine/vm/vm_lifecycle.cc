// Creation, teardown, and the states of a VM.

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/vm/kvm_runner.h"
#include "engine/vm/software_runner.h"
#include "engine/vm/vm_impl.h"

namespace tdp {
namespace {

// The private memslot; the users' follow.
constexpr uint32_t kPrivateSlotId = 0;

const char* NameOf(VmState state) {
  switch (state) {
    case VmState::kCreated:
      return "CREATED";
    case VmState::kRunning:
      return "RUNNING";
    case VmState::kPaused:
      return "PAUSED";
    case VmState::kStopped:
      return "STOPPED";
    case VmState::kFailed:
      return "FAILED";
  }
  return "UNKNOWN";
}

Gfn MaxGfn(const VmEnvironment& environment, const VmConfig& config) {
  const Gfn root_end(FramesOfRoot(static_cast<PageLevel>(config.root_level)));
  if (config.hypervisor == HypervisorKind::kKvm) {
    return std::min(root_end - 1,
                    MaxUserGfn(environment.kvm->physical_address_bits()));
  }
  // Backing frames are numbered, too; half of the numbers are left for others.
  return std::min(root_end, Gfn(PfnAllocator::kPfnCount / 2)) - 1;
}

// As many as can be of use; two at least, because one may wait for a moment
// (for a grace period, when tables are short).
int PagerThreads(int vcpu_count) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(std::min(vcpu_count, cores), 2, 8);
}

}  // namespace

int64_t DefaultPageTableLimit(const PageTableBudget* budget) {
  // So that no guest can use up alone what all VMs share.
  constexpr int64_t kShares = 4;
  if (budget == nullptr) return limits::kDefaultPageTableLimitBytes;
  return std::clamp(budget->limit_bytes() / kShares,
                    limits::kMinPageTableLimitBytes,
                    limits::kDefaultPageTableLimitBytes);
}

absl::StatusOr<VmConfig> VmImpl::CheckConfig(const VmEnvironment& environment,
                                             VmConfig config) {
  const int64_t max_vcpus =
      environment.kvm == nullptr
          ? limits::kMaxVcpusPerVm
          : std::min<int64_t>(limits::kMaxVcpusPerVm,
                              environment.kvm->max_vcpu_count());
  if (config.vcpu_count < 1 || config.vcpu_count > max_vcpus) {
    return FieldError("vm.vcpu_count", absl::StrCat(config.vcpu_count),
                      absl::StrCat("between 1 and ", max_vcpus));
  }
  if (config.root_level == 0) config.root_level = 4;
  if (config.root_level != 4 && config.root_level != 5) {
    return FieldError("vm.root_level", absl::StrCat(config.root_level),
                      "4 (the default) or 5");
  }
  if (config.page_table_limit_bytes == 0) {
    config.page_table_limit_bytes =
        DefaultPageTableLimit(environment.page_table_budget);
  }
  if (config.page_table_limit_bytes < limits::kMinPageTableLimitBytes) {
    return FieldError("vm.page_table_limit_bytes",
                      absl::StrCat(config.page_table_limit_bytes),
                      absl::StrCat("0 for the default, or at least ",
                                   limits::kMinPageTableLimitBytes));
  }
  switch (config.hypervisor) {
    case HypervisorKind::kUnspecified:
      config.hypervisor = environment.kvm != nullptr
                              ? HypervisorKind::kKvm
                              : HypervisorKind::kSoftware;
      break;
    case HypervisorKind::kKvm:
      if (environment.kvm == nullptr) {
        return MakeError(
            ErrorReason::kCapabilityMissing,
            "vm.hypervisor is KVM, but this daemon has no KVM; GetInfo says "
            "why, and HYPERVISOR_SOFTWARE runs the built-in guests without it",
            {{"capability", "kvm"}});
      }
      break;
    case HypervisorKind::kSoftware:
      break;
  }
  return config;
}

VmImpl::VmImpl(const VmEnvironment& environment, absl::string_view id,
               const VmConfig& config)
    : environment_(environment),
      id_(id),
      config_(config),
      create_time_(absl::Now()),
      max_gfn_(MaxGfn(environment, config)),
      memslots_(*environment.rcu, environment.max_memslots),
      working_set_({.scan =
                        [this](absl::Duration start, StopCheck stop) {
                          return ScanWorkingSet(start, stop);
                        },
                    .release = [this] { DropIdleAges(); }}),
      labels_(config.labels) {}

absl::StatusOr<std::shared_ptr<VmImpl>> VmImpl::Create(
    const VmEnvironment& environment, absl::string_view id,
    const VmConfig& config) {
  auto vm = std::shared_ptr<VmImpl>(new VmImpl(environment, id, config));
  if (absl::Status s = vm->Init(); !s.ok()) return s;
  return vm;
}

absl::Status VmImpl::Init() {
  if (absl::Status s = reaper_.Start("tdpd-reaper"); !s.ok()) return s;
  if (absl::Status s = timers_.Start("tdpd-timer"); !s.ok()) return s;
  absl::StatusOr<std::unique_ptr<TdpMmu>> mmu = TdpMmu::Create(
      *environment_.rcu, memslots_, static_cast<PageLevel>(config_.root_level),
      config_.page_table_limit_bytes, environment_.page_table_budget);
  if (!mmu.ok()) return mmu.status();
  mmu_ = *std::move(mmu);
  mmu_->SetTableRoomListener(
      [this] { timers_.Run([this] { ReleaseFailed(); }); });

  std::vector<std::unique_ptr<VcpuRunner>> runners;
  if (config_.hypervisor == HypervisorKind::kKvm) {
    absl::StatusOr<std::unique_ptr<KvmVm>> kvm_vm =
        environment_.kvm->CreateVm();
    if (!kvm_vm.ok()) return kvm_vm.status();
    kvm_vm_ = *std::move(kvm_vm);
    absl::StatusOr<std::unique_ptr<PrivateMemory>> memory =
        PrivateMemory::Create(
            PrivateBase(environment_.kvm->physical_address_bits()),
            config_.vcpu_count);
    if (!memory.ok()) return memory.status();
    private_memory_ = *std::move(memory);
    for (int i = 0; i < config_.vcpu_count; ++i) {
      absl::StatusOr<std::unique_ptr<KvmVcpu>> vcpu = kvm_vm_->CreateVcpu(i);
      if (!vcpu.ok()) return vcpu.status();
      runners.push_back(
          std::make_unique<KvmRunner>(*std::move(vcpu), *private_memory_));
    }
  } else {
    for (int i = 0; i < config_.vcpu_count; ++i) {
      runners.push_back(std::make_unique<SoftwareRunner>(memslots_));
    }
  }
  VcpuHost& host = *this;
  vcpus_ = std::make_unique<VcpuSet>(std::move(runners), host);
  absl::StatusOr<std::unique_ptr<Pager>> pager =
      Pager::Start(PagerThreads(config_.vcpu_count),
                   [this](const std::shared_ptr<Memslot>& memslot) {
                     ServeFaults(memslot);
                   });
  if (!pager.ok()) return pager.status();
  pager_ = *std::move(pager);
  return absl::OkStatus();
}

VmImpl::~VmImpl() {
  const absl::Status torn_down = TearDown("", /*force=*/true);
  TDP_CHECK(torn_down.ok() || absl::IsNotFound(torn_down),
            "a VM can be torn down");
}

absl::Status VmImpl::TearDown(absl::string_view etag, bool force) {
  // So that a change under way does not wait for the guest.
  if (force && vcpus_ != nullptr) vcpus_->RequestStop();
  MutexLock lifecycle(lifecycle_mutex_);
  // What the last vCPU reports comes before the look at the state.
  if (vcpus_ != nullptr) vcpus_->JoinIfEnded();
  std::vector<std::string> memslot_ids;
  {
    MutexLock lock(state_mutex_);
    if (torn_down_) return NotFoundError(name());
    if (absl::Status s = CheckEtag(etag, version_); !s.ok()) return s;
    if (!force && (state_ == VmState::kRunning || state_ == VmState::kPaused)) {
      return StateConflict("be deleted; stop it first");
    }
    torn_down_ = true;
    for (const auto& [id, record] : records_) memslot_ids.push_back(id);
  }
  if (vcpus_ != nullptr) vcpus_->Stop();
  for (int i = 0; i < config_.vcpu_count; ++i) FinishWaiters(i);
  working_set_.Stop();
  for (const std::string& id : memslot_ids) {
    const absl::Status removed = RemoveMemslot(id, /*force=*/true);
    TDP_CHECK(removed.ok(), "a memslot of a stopped VM can be removed");
  }
  if (mmu_ != nullptr) mmu_->SetTableRoomListener(nullptr);
  // What their tasks would have done is done here.
  reaper_.Stop();
  timers_.Stop();
  pager_.reset();
  if (mmu_ != nullptr) {
    const absl::Status zapped = mmu_->ZapInvalidatedRoots();
    TDP_CHECK(zapped.ok(), "roots without leaves can be zapped");
  }
  events_.Close();
  return absl::OkStatus();
}

std::string VmImpl::name() const { return absl::StrCat("vms/", id_); }

VmState VmImpl::state() const {
  MutexLock lock(state_mutex_);
  return state_;
}

VmInfo VmImpl::DescribeLocked() const {
  VmInfo info = {.id = id_,
                 .config = config_,
                 .state = state_,
                 .create_time = create_time_,
                 .etag = absl::StrCat(version_)};
  info.config.labels = labels_;
  return info;
}

VmInfo VmImpl::Describe() const {
  MutexLock lock(state_mutex_);
  return DescribeLocked();
}

absl::Status VmImpl::CheckEtag(absl::string_view etag, int64_t version) const {
  if (etag.empty() || etag == absl::StrCat(version)) return absl::OkStatus();
  return MakeError(
      ErrorReason::kEtagMismatch,
      absl::StrCat("etag is \"", etag, "\", but the resource has \"", version,
                   "\" by now; read it again and decide anew"),
      {{"etag", std::string(etag)}, {"currentEtag", absl::StrCat(version)}});
}

absl::StatusOr<VmInfo> VmImpl::SetLabels(
    std::map<std::string, std::string> labels, absl::string_view etag) {
  if (absl::Status s = CheckUsable("take new labels"); !s.ok()) return s;
  MutexLock lock(state_mutex_);
  if (absl::Status s = CheckEtag(etag, version_); !s.ok()) return s;
  if (labels != labels_) {
    labels_ = std::move(labels);
    ++version_;
  }
  return DescribeLocked();
}

void VmImpl::SetStateLocked(VmState state) {
  if (state == state_) return;
  const VmState old = std::exchange(state_, state);
  ++version_;
  events_.Append(VmStateChangedEvent{old, state});
}

absl::Status VmImpl::StateConflict(absl::string_view wanted) const {
  return MakeError(ErrorReason::kVmStateConflict,
                   absl::StrCat("VM \"", id_, "\" is ", NameOf(state_),
                                " and cannot ", wanted),
                   {{"vm", id_}, {"state", NameOf(state_)}});
}

absl::Status VmImpl::CheckExists() const {
  MutexLock lock(state_mutex_);
  return torn_down_ ? NotFoundError(name()) : absl::OkStatus();
}

absl::Status VmImpl::CheckUsable(absl::string_view wanted) const {
  MutexLock lock(state_mutex_);
  if (torn_down_) return NotFoundError(name());
  if (state_ == VmState::kFailed) {
    return StateConflict(
        absl::StrCat(wanted, "; look at its events, then delete it"));
  }
  return absl::OkStatus();
}

absl::StatusOr<VmInfo> VmImpl::Start() {
  MutexLock lifecycle(lifecycle_mutex_);
  if (absl::Status s = CheckUsable("be started"); !s.ok()) return s;
  VmState before;
  std::vector<GfnRange> ranges;
  // A vCPU that was seen to have exited has told so before the look at the
  // state.
  vcpus_->JoinIfEnded();
  const bool has_guest = vcpus_->HasGuest();
  {
    MutexLock lock(state_mutex_);
    before = state_;
    if (before == VmState::kRunning) return DescribeLocked();
    if (before == VmState::kPaused) {
      return StateConflict("be started; resume it instead");
    }
    if (!has_guest) {
      return StateConflict(
          "be started without a guest; load one with LoadGuest first");
    }
    for (const auto& [id, record] : records_) {
      ranges.push_back(record.memslot->range());
    }
  }
  // KVM's memory for the guest changes only while no vCPU is in it.
  vcpus_->Stop();
  if (kvm_vm_ != nullptr) {
    if (absl::Status s =
            private_memory_->Install(*kvm_vm_, kPrivateSlotId, ranges);
        !s.ok()) {
      return s;
    }
  }
  {
    // Before the vCPUs run: the last one may have exited before Start()
    // returns.
    MutexLock lock(state_mutex_);
    SetStateLocked(VmState::kRunning);
  }
  if (absl::Status s = vcpus_->Start(); !s.ok()) {
    MutexLock lock(state_mutex_);
    SetStateLocked(before);
    return s;
  }
  return Describe();
}

absl::StatusOr<VmInfo> VmImpl::Pause() {
  MutexLock lifecycle(lifecycle_mutex_);
  if (absl::Status s = CheckUsable("be paused"); !s.ok()) return s;
  if (state() == VmState::kRunning) vcpus_->Pause();
  MutexLock lock(state_mutex_);
  if (state_ == VmState::kRunning) SetStateLocked(VmState::kPaused);
  if (state_ != VmState::kPaused) {
    return StateConflict("be paused; only a RUNNING VM can");
  }
  return DescribeLocked();
}

absl::StatusOr<VmInfo> VmImpl::Resume() {
  MutexLock lifecycle(lifecycle_mutex_);
  if (absl::Status s = CheckUsable("be resumed"); !s.ok()) return s;
  {
    MutexLock lock(state_mutex_);
    if (state_ == VmState::kRunning) return DescribeLocked();
    if (state_ != VmState::kPaused) {
      return StateConflict("be resumed; only a PAUSED VM can");
    }
    SetStateLocked(VmState::kRunning);
  }
  vcpus_->Resume();
  return Describe();
}

absl::StatusOr<VmInfo> VmImpl::Stop() {
  MutexLock lifecycle(lifecycle_mutex_);
  if (absl::Status s = CheckUsable("be stopped"); !s.ok()) return s;
  {
    MutexLock lock(state_mutex_);
    if (state_ == VmState::kCreated || state_ == VmState::kStopped) {
      return DescribeLocked();
    }
  }
  vcpus_->Stop();
  // Nobody waits any more.
  mmu_->StopAwaitingTableRoom();
  MutexLock lock(state_mutex_);
  if (state_ != VmState::kFailed) SetStateLocked(VmState::kStopped);
  return DescribeLocked();
}

}  // namespace tdp
