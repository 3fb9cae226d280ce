// KvmVm: one virtual machine in KVM. It has no in-kernel interrupt controller,
// so that a page fault of a vCPU always makes the vCPU's own thread wait and
// HLT always leaves the guest.
//
// KVM_SET_TSS_ADDR is never called: it would put three frames of KVM's own
// below 4 GiB, among the frames that users may give to their memslots. Only
// Intel hosts without "unrestricted guest" need it, for real mode; there
// Kvm::real_mode_supported() is false.
//
// Thread safety: all methods, from any thread. SetMemslot() and
// DeleteMemslot() block while a vCPU sleeps in a fault on any memslot.

#ifndef ENGINE_KVM_KVM_VM_H_
#define ENGINE_KVM_KVM_VM_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/types.h"
#include "engine/kvm/kvm_cpuid.h"
#include "engine/kvm/kvm_system_calls.h"
#include "engine/kvm/kvm_vcpu.h"

namespace tdp {

struct KvmMemslot {
  uint32_t id = 0;  // below Kvm::memslot_count()
  Gpa gpa;
  uint64_t size = 0;  // bytes, whole frames
  Hva hva;
  bool log_dirty_pages = false;
};

class KvmVm {
 public:
  // Takes the descriptor of a VM. `run_size` is the size of a vCPU's shared
  // page; every vCPU gets `cpuid` with its own APIC id; no memslot will ever
  // hold `never_backed`.
  KvmVm(KvmFd fd, size_t run_size, std::shared_ptr<const KvmCpuid> cpuid,
        Gpa never_backed);
  KvmVm(const KvmVm&) = delete;
  KvmVm& operator=(const KvmVm&) = delete;

  // Creates memslot `slot.id`, or changes its address or flags. On an error it
  // is as before. MEMSLOT_OVERLAP if another one holds a frame of it.
  absl::Status SetMemslot(const KvmMemslot& slot);
  // A memslot that does not exist is an error.
  absl::Status DeleteMemslot(uint32_t id);

  // Puts into `words` which frames of the memslot were written since the last
  // call, or since logging began, lowest bit first, and begins anew. `words`
  // has a bit for every frame. None was if the memslot does not log dirty
  // pages, or not yet: who switches that does not wait for who takes the log.
  absl::Status TakeDirtyLog(uint32_t id, absl::Span<uint64_t> words);

  // KVM never forgets a vCPU: an index can be created once in a VM.
  absl::StatusOr<std::unique_ptr<KvmVcpu>> CreateVcpu(int index);

 private:
  const KvmFd fd_;
  const size_t run_size_;
  const std::shared_ptr<const KvmCpuid> cpuid_;
  const Gpa never_backed_;
};

}  // namespace tdp

#endif  // ENGINE_KVM_KVM_VM_H_
