#include "engine/kvm/kvm.h"

#include <linux/kvm.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/errors.h"
#include "engine/base/limits.h"
#include "engine/kvm/guest_layout.h"

namespace tdp {
namespace {

constexpr char kDevice[] = "/dev/kvm";
constexpr char kUnrestrictedGuest[] =
    "/sys/module/kvm_intel/parameters/unrestricted_guest";

// Newer than Debian 12's header.
constexpr int kCapMemoryFaultInfo = 232;
constexpr int kCapDirtyLogRingAcqRel = 223;

constexpr uint32_t kAddressSizesLeaf = 0x80000008;
// The leaves where KVM offers itself to the guest. They are left out: with
// them a guest could ask KVM to write its clock and steal time into the window
// at moments of KVM's choice.
constexpr uint32_t kFirstParavirtualLeaf = 0x40000000;
constexpr uint32_t kLastParavirtualLeaf = 0x4fffffff;
constexpr uint32_t kFirstCpuidBuffer = 256;
constexpr uint32_t kLastCpuidBuffer = 4096;
// What a CPU has at least that names no size.
constexpr int kDefaultPhysicalAddressBits = 36;

// The private slot and what the API offers.
constexpr int kWantedMemslots = static_cast<int>(limits::kMaxMemslotsPerVm) + 1;

constexpr absl::string_view kNames[] = {
    "kvm",
    "kvm.user_memory",
    "kvm.sync_mmu",
    "kvm.immediate_exit",
    "kvm.supported_cpuid",
    "kvm.nr_memslots",
    "kvm.real_mode",
    "kvm.memory_fault_info",
    "kvm.dirty_log_manual",
    "kvm.dirty_ring",
};

absl::Status MissingError(absl::string_view capability,
                          absl::string_view what_and_fix) {
  return MakeError(ErrorReason::kCapabilityMissing,
                   absl::StrCat("KVM cannot be used: ", what_and_fix,
                                "; or choose the software hypervisor"),
                   {{"capability", std::string(capability)}});
}

absl::Status OpenError(int error) {
  switch (error) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
      return MissingError(
          "kvm",
          "/dev/kvm does not exist; enable virtualization in the host's "
          "firmware (or nested virtualization in its hypervisor), load "
          "kvm_intel or kvm_amd with modprobe, and pass the device into the "
          "container if there is one");
    case EACCES:
      return MissingError(
          "kvm",
          "permission to open /dev/kvm is missing; add the daemon's user to "
          "the group that owns the device (usually kvm)");
    case EPERM:
      return MissingError("kvm",
                          "a device policy forbids /dev/kvm; allow it with "
                          "DeviceAllow=/dev/kvm rw or --device=/dev/kvm");
    default:
      return MissingError("kvm",
                          absl::StrCat("open(\"/dev/kvm\"): ", strerror(error),
                                       " (errno ", error, ")"));
  }
}

absl::Status CreateVmError(int error) {
  if (error == EBUSY) {
    return MissingError(
        "kvm",
        "another hypervisor uses the CPU's virtualization (ioctl("
        "KVM_CREATE_VM): EBUSY); stop it");
  }
  return MissingError(
      "kvm", absl::StrCat("ioctl(KVM_CREATE_VM): ", strerror(error), " (errno ",
                          error, "); see the kernel's log and free memory"));
}

int CreateVmFd(const KvmFd& kvm) {
  int result;
  do {
    result = kvm.Ioctl(KVM_CREATE_VM);
  } while (result == -EINTR);
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kvm>> Kvm::Open(
    std::shared_ptr<KvmSystemCalls> calls) {
  const int fd = calls->Open(kDevice);
  if (fd < 0) return OpenError(-fd);
  std::unique_ptr<Kvm> kvm(new Kvm(KvmFd(std::move(calls), fd)));
  const absl::Status status = kvm->Probe();
  if (!status.ok()) return status;
  return kvm;
}

std::vector<KvmCapability> Kvm::CapabilitiesWithout(const absl::Status& error) {
  std::vector<KvmCapability> capabilities;
  for (const absl::string_view name : kNames) {
    capabilities.push_back(
        {std::string(name), false, std::string(error.message())});
  }
  return capabilities;
}

absl::Status Kvm::Probe() {
  const int version = fd_.Ioctl(KVM_GET_API_VERSION);
  if (version != KVM_API_VERSION) {
    return MissingError("kvm", absl::StrCat("/dev/kvm answers API version ",
                                            version, ", not ", KVM_API_VERSION,
                                            "; run a kernel of 4.11 or later"));
  }
  const struct {
    absl::string_view name;
    int extension;
  } required[] = {{"kvm.user_memory", KVM_CAP_USER_MEMORY},
                  {"kvm.sync_mmu", KVM_CAP_SYNC_MMU},
                  {"kvm.immediate_exit", KVM_CAP_IMMEDIATE_EXIT},
                  {"kvm.supported_cpuid", KVM_CAP_EXT_CPUID}};
  for (const auto& [name, extension] : required) {
    if (Extension(extension) > 0) continue;
    return MissingError(name, absl::StrCat("the kernel's KVM lacks ", name,
                                           "; run a kernel of 4.11 or later"));
  }
  const int run_size = fd_.Ioctl(KVM_GET_VCPU_MMAP_SIZE);
  if (run_size < static_cast<int>(sizeof(kvm_run))) {
    return MissingError(
        "kvm", absl::StrCat("ioctl(KVM_GET_VCPU_MMAP_SIZE): ", run_size));
  }
  run_size_ = static_cast<size_t>(run_size);
  const absl::Status cpuid = ReadCpuid();
  if (!cpuid.ok()) return cpuid;
  const int vm = CreateVmFd(fd_);
  if (vm < 0) return CreateVmError(-vm);
  fd_.calls()->Close(vm);

  // The kernel's documented default where it does not tell.
  memslot_count_ = std::max(Extension(KVM_CAP_NR_MEMSLOTS), 32);
  max_vcpu_count_ =
      std::max({Extension(KVM_CAP_MAX_VCPUS), Extension(KVM_CAP_NR_VCPUS), 4});
  real_mode_supported_ =
      !absl::StartsWith(fd_.calls()->ReadLine(kUnrestrictedGuest), "N");

  capabilities_ = CapabilitiesWithout(absl::OkStatus());
  for (KvmCapability& capability : capabilities_) capability.available = true;
  const auto set = [this](absl::string_view name, bool available,
                          absl::string_view hint) {
    for (KvmCapability& capability : capabilities_) {
      if (capability.name != name) continue;
      capability.available = available;
      capability.hint = available ? "" : std::string(hint);
    }
  };
  set("kvm.nr_memslots", memslot_count_ >= kWantedMemslots,
      absl::StrCat("this kernel takes ", memslot_count_,
                   " memslots for a VM; VMs get fewer here"));
  set("kvm.real_mode", real_mode_supported_,
      "the CPU, or the option unrestricted_guest of kvm_intel, does not run "
      "real mode; load kvm_intel with unrestricted_guest=1 or use long mode");
  set("kvm.memory_fault_info", Extension(kCapMemoryFaultInfo) > 0,
      "the kernel does not name the address of a refused access; run Linux "
      "6.8 or later if that matters");
  set("kvm.dirty_log_manual",
      (Extension(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) &
       KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0,
      "KVM's dirty log cannot be re-protected in parts; run Linux 5.0 or "
      "later");
  set("kvm.dirty_ring",
      Extension(KVM_CAP_DIRTY_LOG_RING) > 0 ||
          Extension(kCapDirtyLogRingAcqRel) > 0,
      "KVM has no dirty ring; run Linux 5.11 or later");
  return absl::OkStatus();
}

absl::Status Kvm::ReadCpuid() {
  std::vector<uint8_t> buffer;
  uint32_t size = kFirstCpuidBuffer;
  int result;
  do {
    buffer = PackCpuid(KvmCpuid(size));
    result = fd_.Ioctl(kKvmGetSupportedCpuid, buffer.data());
    size *= 2;
  } while (result == -E2BIG && size <= kLastCpuidBuffer);
  if (result < 0) {
    return MissingError(
        "kvm.supported_cpuid",
        absl::StrCat("ioctl(KVM_GET_SUPPORTED_CPUID): ", strerror(-result)));
  }
  KvmCpuid entries = UnpackCpuid(buffer.data());
  physical_address_bits_ = kDefaultPhysicalAddressBits;
  for (const kvm_cpuid_entry2& entry : entries) {
    if (entry.function != kAddressSizesLeaf) continue;
    physical_address_bits_ = static_cast<int>(entry.eax & 0xff);
    // Bits 23:16: what a guest can map where that is less, e.g. 4-level EPT.
    const int guest_bits = static_cast<int>((entry.eax >> 16) & 0xff);
    if (guest_bits != 0) {
      physical_address_bits_ = std::min(physical_address_bits_, guest_bits);
    }
  }
  entries.erase(std::remove_if(entries.begin(), entries.end(),
                               [](const kvm_cpuid_entry2& entry) {
                                 return entry.function >=
                                            kFirstParavirtualLeaf &&
                                        entry.function <= kLastParavirtualLeaf;
                               }),
                entries.end());
  cpuid_ = std::make_shared<const KvmCpuid>(std::move(entries));
  return absl::OkStatus();
}

int Kvm::Extension(int extension) const {
  return std::max(
      fd_.Ioctl(KVM_CHECK_EXTENSION, static_cast<uintptr_t>(extension)), 0);
}

absl::StatusOr<std::unique_ptr<KvmVm>> Kvm::CreateVm() const {
  const int fd = CreateVmFd(fd_);
  if (fd < 0) return CreateVmError(-fd);
  return std::make_unique<KvmVm>(KvmFd(fd_.calls(), fd), run_size_, cpuid_,
                                 NeverBackedGpa(physical_address_bits_));
}

}  // namespace tdp
