// BareKvm: a guest of KVM without a daemon. It runs the touch program on a
// BareWindow.
//
// Thread safety: belongs to one thread.

#ifndef ENGINE_BENCH_BARE_KVM_H_
#define ENGINE_BENCH_BARE_KVM_H_

#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "engine/bench/bare_userfault.h"
#include "engine/kvm/kvm.h"
#include "engine/kvm/kvm_vcpu.h"
#include "engine/kvm/kvm_vm.h"
#include "engine/kvm/private_memory.h"

namespace tdp::bench {

class BareKvm {
 public:
  // The window is the guest's memory from address 0 on, and outlives this.
  // REQUIRES: HasKvm().
  explicit BareKvm(BareWindow& window);
  BareKvm(const BareKvm&) = delete;
  BareKvm& operator=(const BareKvm&) = delete;

  // The guest writes to the first `frames` frames once, in ascending order; the
  // time that takes.
  double PassNs(uint64_t frames);
  double PassNs() { return PassNs(window_.frames()); }

  // KVM's own dirty log. Switching it on makes every frame clean.
  void SetDirtyLog(bool on);
  void TakeDirtyLog(absl::Span<uint64_t> words);

 private:
  BareWindow& window_;
  std::unique_ptr<Kvm> kvm_;
  std::unique_ptr<KvmVm> vm_;
  std::unique_ptr<KvmVcpu> vcpu_;
  std::unique_ptr<PrivateMemory> private_;
};

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_BARE_KVM_H_
