#include "engine/bench/bare_kvm.h"

#include <cstdint>
#include <utility>

#include "engine/base/check.h"
#include "engine/bench/harness.h"
#include "engine/bench/touched_vm.h"
#include "engine/kvm/boot.h"
#include "engine/kvm/kvm_system_calls.h"
#include "engine/vm/touch_sequence.h"

namespace tdp::bench {
namespace {

constexpr uint32_t kPrivateSlot = 0;
constexpr uint32_t kWindowSlot = 1;

}  // namespace

BareKvm::BareKvm(BareWindow& window) : window_(window) {
  auto kvm = Kvm::Open(MakeHostKvmSystemCalls());
  Must(kvm.status());
  kvm_ = *std::move(kvm);
  auto vm = kvm_->CreateVm();
  Must(vm.status());
  vm_ = *std::move(vm);
  auto vcpu = vm_->CreateVcpu(0);
  Must(vcpu.status());
  vcpu_ = *std::move(vcpu);
  auto memory =
      PrivateMemory::Create(PrivateBase(kvm_->physical_address_bits()), 1);
  Must(memory.status());
  private_ = *std::move(memory);
  SetDirtyLog(false);
  Must(private_->Install(*vm_, kPrivateSlot, {{Gfn(0), Gfn(window.frames())}}));
}

double BareKvm::PassNs(uint64_t frames) {
  TouchBlock* block = private_->touch_block(0);
  *block = MakeTouchBlock({.range = {Gfn(0), Gfn(frames)}, .write = true});
  Must(SetUpLongMode(*vcpu_, {.page_table_root = private_->page_table_root(),
                              .gdt = private_->gdt(),
                              .entry = private_->touch_program_entry().value(),
                              .argument = private_->touch_block_gpa(0).value(),
                              .stack = private_->stack_top(0).value()}));
  const Timer timer;
  const VcpuExit exit = vcpu_->Run();
  const double ns = timer.ns();
  TDP_CHECK(exit.kind == VcpuExit::Kind::kHlt, "the guest has halted");
  TDP_CHECK(TouchedCount(*block) == frames, "the guest touched each frame");
  return ns;
}

void BareKvm::SetDirtyLog(bool on) {
  Must(vm_->SetMemslot({.id = kWindowSlot,
                        .gpa = Gpa(0),
                        .size = window_.size_bytes(),
                        .hva = window_.hva(),
                        .log_dirty_pages = on}));
}

void BareKvm::TakeDirtyLog(absl::Span<uint64_t> words) {
  Must(vm_->TakeDirtyLog(kWindowSlot, words));
}

}  // namespace tdp::bench
