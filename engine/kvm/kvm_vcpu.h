// KvmVcpu: one virtual CPU of a KvmVm.
//
// Thread safety: Run(), the register calls and the Complete calls belong to one
// thread at a time, the vCPU's; set_immediate_exit() may be called from any.
// The thread may change between calls.

#ifndef ENGINE_KVM_KVM_VCPU_H_
#define ENGINE_KVM_KVM_VCPU_H_

#include <linux/kvm.h>

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/types.h"
#include "engine/kvm/kvm_system_calls.h"
#include "engine/kvm/vcpu_exit.h"

namespace tdp {

class KvmVcpu {
 public:
  // Takes the vCPU's descriptor and its shared page of `run_size` bytes, and
  // unmaps and closes them. No memslot ever holds `never_backed`.
  KvmVcpu(int index, KvmFd fd, kvm_run* run, size_t run_size, Gpa never_backed);
  KvmVcpu(const KvmVcpu&) = delete;
  KvmVcpu& operator=(const KvmVcpu&) = delete;
  ~KvmVcpu();

  int index() const { return index_; }

  // Enters the guest and returns why it left. The first thing that an entry
  // does is to complete the exit before it: to advance over the port access or
  // MMIO, to take the answer of a read. That happens also where
  // immediate_exit is set and the guest is not entered.
  VcpuExit Run();

  // While set, Run() returns kInterrupted without entering the guest. It does
  // not end a Run() that is in the guest: see VcpuKicker.
  void set_immediate_exit(bool value);

  // The answer to the MMIO read, or the port read, that Run() returned last.
  // `bytes` is as long as the access.
  void CompleteMmioRead(absl::Span<const uint8_t> bytes);
  void CompleteIoRead(absl::Span<const uint8_t> bytes);

  // Ends what the guest was doing, for good, without entering it: afterwards
  // nothing is left that the next Run() would apply to the registers. An
  // instruction that waits for the answer of a read gets ones, and what it
  // would write to memory then is not written.
  //
  // All registers are undefined afterwards: set them.
  absl::Status AbandonGuest();

  absl::StatusOr<uint64_t> InstructionPointer() const;

  absl::StatusOr<kvm_regs> GetRegisters() const;
  absl::Status SetRegisters(const kvm_regs& registers);
  absl::StatusOr<kvm_sregs> GetSystemRegisters() const;
  absl::Status SetSystemRegisters(const kvm_sregs& registers);
  // The floating point unit as after reset, and no exception or interrupt
  // pending.
  absl::Status ResetFpuAndEvents();

 private:
  // Takes the guest's memory away: every address, of code or data, has no
  // translation.
  absl::Status UnmapEverything();

  const int index_;
  const KvmFd fd_;
  // Shared with the kernel. immediate_exit is also written by other threads,
  // atomically; the rest belongs to the vCPU's thread.
  kvm_run* const run_;
  const size_t run_size_;
  const Gpa never_backed_;
};

}  // namespace tdp

#endif  // ENGINE_KVM_KVM_VCPU_H_
