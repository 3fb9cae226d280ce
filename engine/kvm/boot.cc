#include "engine/kvm/boot.h"

#include <linux/kvm.h>

#include "engine/base/errors.h"
#include "engine/kvm/guest_layout.h"
#include "engine/kvm/x86.h"

namespace tdp {
namespace {

constexpr char kEntryField[] = "guest.code.entry_gpa";

constexpr uint8_t kTypeData = 3;   // read, write, accessed
constexpr uint8_t kTypeCode = 11;  // execute, read, accessed
constexpr uint8_t kTypeLdt = 2;
constexpr uint8_t kTypeBusyTss = 11;

constexpr uint32_t kRealModeLimit = 0xffff;
constexpr uint16_t kRealModeIdtLimit = 0x3ff;
constexpr uint64_t kRealModeStack = 0x8000;
constexpr uint64_t kRealModeSegmentMask = 0xf0000;
constexpr uint64_t kRealModeOffsetMask = 0xffff;
constexpr uint16_t kGdtLimit = 3 * 8 - 1;

kvm_segment RealModeSegment(uint8_t type, uint64_t base) {
  kvm_segment segment = {};
  segment.base = base;
  segment.limit = kRealModeLimit;
  segment.selector = static_cast<uint16_t>(base >> 4);
  segment.type = type;
  segment.present = 1;
  segment.s = 1;
  return segment;
}

kvm_segment LongModeSegment(uint8_t type, uint16_t selector) {
  kvm_segment segment = {};
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = type;
  segment.present = 1;
  segment.s = 1;
  segment.g = 1;
  segment.l = type == kTypeCode ? 1 : 0;
  segment.db = type == kTypeCode ? 0 : 1;
  return segment;
}

kvm_segment SystemSegment(uint8_t type) {
  kvm_segment segment = {};
  segment.limit = 0xffff;
  segment.type = type;
  segment.present = 1;
  return segment;
}

void SetDataSegments(const kvm_segment& data, kvm_sregs* sregs) {
  sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
}

// Writes the state. `sregs` has everything but what stays with the vCPU.
absl::Status Apply(KvmVcpu& vcpu, kvm_sregs sregs, const kvm_regs& regs) {
  absl::Status status = vcpu.AbandonGuest();
  if (!status.ok()) return status;
  const absl::StatusOr<kvm_sregs> old = vcpu.GetSystemRegisters();
  if (!old.ok()) return old.status();
  sregs.apic_base = old->apic_base;
  sregs.tr = SystemSegment(kTypeBusyTss);
  sregs.ldt = SystemSegment(kTypeLdt);
  status = vcpu.SetSystemRegisters(sregs);
  if (!status.ok()) return status;
  status = vcpu.SetRegisters(regs);
  if (!status.ok()) return status;
  return vcpu.ResetFpuAndEvents();
}

}  // namespace

absl::Status SetUpRealMode(KvmVcpu& vcpu, Gpa entry) {
  if (entry.value() >= kRealModeEnd) {
    return FieldError(kEntryField, Hex(entry.value()),
                      "below 1 MiB (0x100000) in real mode");
  }
  kvm_sregs sregs = {};
  sregs.cr0 = x86::kCr0Et;
  sregs.cs = RealModeSegment(kTypeCode, entry.value() & kRealModeSegmentMask);
  SetDataSegments(RealModeSegment(kTypeData, 0), &sregs);
  sregs.idt.limit = kRealModeIdtLimit;
  sregs.gdt.limit = kRealModeLimit;

  kvm_regs regs = {};
  regs.rip = entry.value() & kRealModeOffsetMask;
  regs.rsp = kRealModeStack;
  regs.rflags = x86::kRflagsReserved;
  return Apply(vcpu, sregs, regs);
}

absl::Status SetUpLongMode(KvmVcpu& vcpu, const LongModeStart& start) {
  if (start.entry >= kCanonicalLowHalfEnd) {
    return FieldError(kEntryField, Hex(start.entry),
                      "below 0x800000000000 in 64-bit mode");
  }
  kvm_sregs sregs = {};
  sregs.cr0 = x86::kCr0Pe | x86::kCr0Mp | x86::kCr0Et | x86::kCr0Ne |
              x86::kCr0Wp | x86::kCr0Pg;
  sregs.cr3 = start.page_table_root.value();
  sregs.cr4 = x86::kCr4Pae | x86::kCr4Osfxsr | x86::kCr4Osxmmexcpt;
  sregs.efer = x86::kEferLme | x86::kEferLma;
  sregs.cs = LongModeSegment(kTypeCode, kCodeSelector);
  SetDataSegments(LongModeSegment(kTypeData, kDataSelector), &sregs);
  sregs.gdt.base = start.gdt.value();
  sregs.gdt.limit = kGdtLimit;

  kvm_regs regs = {};
  regs.rip = start.entry;
  regs.rdi = start.argument;
  regs.rsp = start.stack;
  regs.rflags = x86::kRflagsReserved;
  return Apply(vcpu, sregs, regs);
}

}  // namespace tdp
