#include "engine/kvm/kvm_vcpu.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "engine/base/errors.h"
#include "engine/kvm/x86.h"

namespace tdp {
namespace {

constexpr std::array<uint8_t, 8> kOnes = {0xff, 0xff, 0xff, 0xff,
                                          0xff, 0xff, 0xff, 0xff};
// One access leaves the guest at most once for each byte of the longest
// instruction operand (64 bytes) and once for each page that it touches.
constexpr int kMaxExitsOfOneAccess = 128;
constexpr uint16_t kFpuControlAfterReset = 0x37f;
constexpr uint32_t kMxcsrAfterReset = 0x1f80;

}  // namespace

KvmVcpu::KvmVcpu(int index, KvmFd fd, kvm_run* run, size_t run_size,
                 Gpa never_backed)
    : index_(index),
      fd_(std::move(fd)),
      run_(run),
      run_size_(run_size),
      never_backed_(never_backed) {}

KvmVcpu::~KvmVcpu() { fd_.calls()->Unmap(run_, run_size_); }

VcpuExit KvmVcpu::Run() {
  // KVM leaves the reason of an earlier exit where KVM_RUN fails early.
  run_->exit_reason = KVM_EXIT_UNKNOWN;
  const int result = fd_.Ioctl(KVM_RUN);
  return DecodeVcpuExit(run_, run_size_, result);
}

void KvmVcpu::set_immediate_exit(bool value) {
  __atomic_store_n(&run_->immediate_exit, value ? 1 : 0, __ATOMIC_SEQ_CST);
}

void KvmVcpu::CompleteMmioRead(absl::Span<const uint8_t> bytes) {
  memcpy(run_->mmio.data, bytes.data(),
         std::min(bytes.size(), sizeof run_->mmio.data));
}

void KvmVcpu::CompleteIoRead(absl::Span<const uint8_t> bytes) {
  const VcpuExit exit = DecodeVcpuExit(run_, run_size_, 0);
  memcpy(exit.io.data.data(), bytes.data(),
         std::min(bytes.size(), exit.io.data.size()));
}

absl::Status KvmVcpu::AbandonGuest() {
  // KVM finishes an instruction that has got its answer, and nothing makes it
  // forget one. So it must find nothing to write to.
  const absl::Status status = UnmapEverything();
  if (!status.ok()) return status;
  VcpuExit exit = DecodeVcpuExit(run_, run_size_, 0);
  for (int i = 0; i < kMaxExitsOfOneAccess; ++i) {
    if (exit.kind == VcpuExit::Kind::kMmio && !exit.mmio.is_write) {
      CompleteMmioRead(kOnes);
    } else if (exit.kind == VcpuExit::Kind::kIo && !exit.io.is_write) {
      std::fill(exit.io.data.begin(), exit.io.data.end(), uint8_t{0xff});
    }
    const uint8_t before =
        __atomic_exchange_n(&run_->immediate_exit, 1, __ATOMIC_SEQ_CST);
    exit = Run();
    // A kick that came meanwhile is lost here if `before` was 0; the caller
    // is not in the guest, so there is nothing to kick.
    __atomic_store_n(&run_->immediate_exit, before, __ATOMIC_SEQ_CST);
    if (exit.kind == VcpuExit::Kind::kInterrupted) return absl::OkStatus();
    if (exit.kind == VcpuExit::Kind::kRunFailed) {
      return HostCallError("ioctl(KVM_RUN)", exit.error);
    }
  }
  return InternalError("a vCPU keeps exiting without being entered",
                       {{"exit", exit.name}});
}

absl::Status KvmVcpu::UnmapEverything() {
  absl::StatusOr<kvm_sregs> sregs = GetSystemRegisters();
  if (!sregs.ok()) return sregs.status();
  sregs->cr0 = x86::kCr0Pe | x86::kCr0Et | x86::kCr0Pg;
  sregs->cr3 = never_backed_.value();
  sregs->cr4 = x86::kCr4Pae;
  sregs->efer = x86::kEferLme | x86::kEferLma;
  sregs->cs.l = 1;
  sregs->cs.db = 0;
  return SetSystemRegisters(*sregs);
}

absl::StatusOr<uint64_t> KvmVcpu::InstructionPointer() const {
  const absl::StatusOr<kvm_regs> registers = GetRegisters();
  if (!registers.ok()) return registers.status();
  return registers->rip;
}

absl::StatusOr<kvm_regs> KvmVcpu::GetRegisters() const {
  kvm_regs registers = {};
  const int result = fd_.Ioctl(KVM_GET_REGS, &registers);
  if (result < 0) return HostCallError("ioctl(KVM_GET_REGS)", -result);
  return registers;
}

absl::Status KvmVcpu::SetRegisters(const kvm_regs& registers) {
  const int result = fd_.Ioctl(KVM_SET_REGS, &registers);
  if (result < 0) return HostCallError("ioctl(KVM_SET_REGS)", -result);
  return absl::OkStatus();
}

absl::StatusOr<kvm_sregs> KvmVcpu::GetSystemRegisters() const {
  kvm_sregs registers = {};
  const int result = fd_.Ioctl(KVM_GET_SREGS, &registers);
  if (result < 0) return HostCallError("ioctl(KVM_GET_SREGS)", -result);
  return registers;
}

absl::Status KvmVcpu::SetSystemRegisters(const kvm_sregs& registers) {
  const int result = fd_.Ioctl(KVM_SET_SREGS, &registers);
  if (result < 0) return HostCallError("ioctl(KVM_SET_SREGS)", -result);
  return absl::OkStatus();
}

absl::Status KvmVcpu::ResetFpuAndEvents() {
  kvm_fpu fpu = {};
  fpu.fcw = kFpuControlAfterReset;
  fpu.mxcsr = kMxcsrAfterReset;
  int result = fd_.Ioctl(KVM_SET_FPU, &fpu);
  if (result < 0) return HostCallError("ioctl(KVM_SET_FPU)", -result);
  const kvm_vcpu_events events = {};
  result = fd_.Ioctl(KVM_SET_VCPU_EVENTS, &events);
  if (result < 0) return HostCallError("ioctl(KVM_SET_VCPU_EVENTS)", -result);
  return absl::OkStatus();
}

}  // namespace tdp
