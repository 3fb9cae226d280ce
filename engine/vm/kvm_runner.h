// KvmRunner: a vCPU of a KVM virtual machine.

#ifndef ENGINE_VM_KVM_RUNNER_H_
#define ENGINE_VM_KVM_RUNNER_H_

#include <atomic>
#include <memory>

#include "engine/kvm/kvm_vcpu.h"
#include "engine/kvm/private_memory.h"
#include "engine/kvm/vcpu_kicker.h"
#include "engine/vm/vcpu_runner.h"

namespace tdp {

class KvmRunner final : public VcpuRunner {
 public:
  // `memory` outlives the runner.
  KvmRunner(std::unique_ptr<KvmVcpu> vcpu, PrivateMemory& memory)
      : vcpu_(std::move(vcpu)), kicker_(vcpu_.get()), memory_(memory) {}

  absl::Status Boot(const LoadedGuest& guest) override;
  void BindThread() override { kicker_.BindThisThread(); }
  void UnbindThread() override { kicker_.UnbindThread(); }
  GuestExit Run() override;
  void CompleteAccess(absl::Span<const uint8_t> read_bytes) override {
    // KVM completes a write by itself at the next entry.
    if (!read_bytes.empty()) vcpu_->CompleteMmioRead(read_bytes);
  }
  void Kick() override { kicker_.Kick(); }
  void ClearKick() override { kicker_.ClearKick(); }
  uint64_t instruction_pointer() const override {
    // Relaxed: a value to show.
    return instruction_pointer_.load(std::memory_order_relaxed);
  }
  int64_t touched_frame_count() const override;

 private:
  const std::unique_ptr<KvmVcpu> vcpu_;
  VcpuKicker kicker_;
  PrivateMemory& memory_;
  std::atomic<uint64_t> instruction_pointer_{0};
};

}  // namespace tdp

#endif  // ENGINE_VM_KVM_RUNNER_H_
