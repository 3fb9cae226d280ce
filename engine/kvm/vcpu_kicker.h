// VcpuKicker: makes a vCPU leave the guest, from any thread, at any moment.
//
// A kick sets the vCPU's immediate_exit and sends its thread a signal whose
// handler does nothing. The flag covers the moment before KVM_RUN, the signal
// the time within: whichever way the race goes, Run() returns kInterrupted.
//
// The flag stays set until ClearKick(). The vCPU's thread clears it first and
// then reads what it was kicked for, and kickers write that first and then
// kick; so no reason is missed.
//
// A vCPU that sleeps in a window fault does not leave: the kernel ends
// KVM_RUN only once the fault is resolved or ejected, and the thread spins
// until then.
//
// Signal mask: the kick signal must not be blocked in a vCPU's thread.
// BindThisThread() unblocks it there. Other threads never receive it; they may
// block it or not.
//
// Thread safety: Kick() from any thread; the rest from the vCPU's thread.

#ifndef ENGINE_KVM_VCPU_KICKER_H_
#define ENGINE_KVM_VCPU_KICKER_H_

#include <sys/types.h>

#include <mutex>

#include "absl/status/status.h"
#include "engine/kvm/kvm_vcpu.h"

namespace tdp {

// The real-time signal that kicks use.
int KickSignal();

// Installs the handler, without SA_RESTART. Idempotent; call it before the
// first vCPU thread starts.
absl::Status InstallKickSignal();

class VcpuKicker {
 public:
  // `vcpu` outlives the kicker.
  explicit VcpuKicker(KvmVcpu* vcpu) : vcpu_(vcpu) {}
  VcpuKicker(const VcpuKicker&) = delete;
  VcpuKicker& operator=(const VcpuKicker&) = delete;

  // This thread runs the vCPU from now on, until UnbindThread(), which it
  // calls before it ends: a signal to a thread id of the past would reach a
  // stranger.
  void BindThisThread();
  void UnbindThread();

  // Without a bound thread only the flag is set.
  void Kick();
  void ClearKick() { vcpu_->set_immediate_exit(false); }

 private:
  KvmVcpu* const vcpu_;
  std::mutex mutex_;
  pid_t thread_id_ = 0;  // guarded by mutex_; 0: none
};

}  // namespace tdp

#endif  // ENGINE_KVM_VCPU_KICKER_H_
