#include "engine/kvm/kvm_vm.h"

#include <linux/kvm.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {
namespace {

constexpr uint32_t kFeatureLeaf = 1;
constexpr int kInitialApicIdShift = 24;
constexpr uint32_t kTopologyLeaf = 0xb;
constexpr uint32_t kTopologyLeafV2 = 0x1f;

absl::Status MemslotError(const KvmMemslot& slot, int error) {
  const std::string what =
      absl::StrCat("KVM memslot ", slot.id, " of ", Hex(slot.size),
                   " bytes at ", Hex(slot.gpa.value()));
  ErrorMetadata metadata = {{"memslot", absl::StrCat(slot.id)},
                            {"sizeBytes", Hex(slot.size)},
                            {"gpa", Hex(slot.gpa.value())}};
  if (error == EEXIST) {
    return MakeError(
        ErrorReason::kMemslotOverlap,
        absl::StrCat(what,
                     " overlaps another memslot of the VM; choose other "
                     "frames"),
        std::move(metadata));
  }
  if (error == ENOMEM) {
    return MakeError(
        ErrorReason::kHostMemoryExhausted,
        absl::StrCat(what, ": the kernel has no memory for it; free memory"),
        std::move(metadata));
  }
  return HostCallError(
      absl::StrCat("ioctl(KVM_SET_USER_MEMORY_REGION) of ", what), error);
}

KvmCpuid CpuidOf(int index, const KvmCpuid& common) {
  const uint32_t apic_id = static_cast<uint32_t>(index);
  KvmCpuid entries = common;
  for (kvm_cpuid_entry2& entry : entries) {
    if (entry.function == kFeatureLeaf) {
      entry.ebx &= (uint32_t{1} << kInitialApicIdShift) - 1;
      entry.ebx |= apic_id << kInitialApicIdShift;
    } else if (entry.function == kTopologyLeaf ||
               entry.function == kTopologyLeafV2) {
      entry.edx = apic_id;
    }
  }
  return entries;
}

}  // namespace

KvmVm::KvmVm(KvmFd fd, size_t run_size, std::shared_ptr<const KvmCpuid> cpuid,
             Gpa never_backed)
    : fd_(std::move(fd)),
      run_size_(run_size),
      cpuid_(std::move(cpuid)),
      never_backed_(never_backed) {}

absl::Status KvmVm::SetMemslot(const KvmMemslot& slot) {
  const kvm_userspace_memory_region region = {
      .slot = slot.id,
      .flags = slot.log_dirty_pages ? uint32_t{KVM_MEM_LOG_DIRTY_PAGES} : 0,
      .guest_phys_addr = slot.gpa.value(),
      .memory_size = slot.size,
      .userspace_addr = slot.hva.value()};
  const int result = fd_.Ioctl(KVM_SET_USER_MEMORY_REGION, &region);
  return result < 0 ? MemslotError(slot, -result) : absl::OkStatus();
}

absl::Status KvmVm::DeleteMemslot(uint32_t id) {
  return SetMemslot({.id = id});
}

absl::Status KvmVm::TakeDirtyLog(uint32_t id, absl::Span<uint64_t> words) {
  kvm_dirty_log log = {};
  log.slot = id;
  log.dirty_bitmap = words.data();
  const int result = fd_.Ioctl(KVM_GET_DIRTY_LOG, &log);
  if (result < 0) std::fill(words.begin(), words.end(), 0);
  if (result == -ENOENT) return absl::OkStatus();
  return result < 0
             ? HostCallError(
                   absl::StrCat("ioctl(KVM_GET_DIRTY_LOG) of memslot ", id),
                   -result)
             : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<KvmVcpu>> KvmVm::CreateVcpu(int index) {
  const int fd = fd_.Ioctl(KVM_CREATE_VCPU, static_cast<uintptr_t>(index));
  if (fd < 0) {
    return HostCallError(absl::StrCat("ioctl(KVM_CREATE_VCPU) of ", index),
                         -fd);
  }
  KvmFd vcpu_fd(fd_.calls(), fd);

  const std::vector<uint8_t> cpuid = PackCpuid(CpuidOf(index, *cpuid_));
  const int result = vcpu_fd.Ioctl(kKvmSetCpuid2, cpuid.data());
  if (result < 0) return HostCallError("ioctl(KVM_SET_CPUID2)", -result);

  int error = 0;
  void* run = fd_.calls()->Map(fd, run_size_, &error);
  if (run == nullptr) return HostCallError("mmap() of a vCPU", error);
  return std::make_unique<KvmVcpu>(index, std::move(vcpu_fd),
                                   static_cast<kvm_run*>(run), run_size_,
                                   never_backed_);
}

}  // namespace tdp
