// Puts a vCPU into the state in which a guest starts. Everything that an
// earlier guest left in the vCPU is overwritten: registers, an unfinished
// exit, pending exceptions, the floating point unit.
//
// Thread safety: as KvmVcpu; the vCPU is not in the guest.

#ifndef ENGINE_KVM_BOOT_H_
#define ENGINE_KVM_BOOT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/base/types.h"
#include "engine/kvm/kvm_vcpu.h"

namespace tdp {

// First address that real mode code cannot be entered at.
inline constexpr uint64_t kRealModeEnd = uint64_t{1} << 20;

// 16-bit real mode at `entry`, below 1 MiB. The code segment is the 64 KiB
// that hold `entry`: CS is (entry & 0xf0000) >> 4 and IP is entry & 0xffff.
// DS, ES, SS, FS and GS are 0, SP is 0x8000, interrupts are off, the general
// registers are 0. Below 64 KiB, offsets are therefore addresses, in code and
// data. FIELD_INVALID for an entry of 1 MiB or more.
absl::Status SetUpRealMode(KvmVcpu& vcpu, Gpa entry);

struct LongModeStart {
  Gpa page_table_root;    // PrivateMemory::page_table_root()
  Gpa gdt;                // PrivateMemory::gdt()
  uint64_t entry = 0;     // RIP
  uint64_t argument = 0;  // RDI
  uint64_t stack = 0;     // RSP
};

// 64-bit mode, ring 0, flat segments, SSE enabled, interrupts off, no IDT: an
// exception ends in SHUTDOWN. The other general registers are 0.
// FIELD_INVALID for an entry outside the lower canonical half.
absl::Status SetUpLongMode(KvmVcpu& vcpu, const LongModeStart& start);

}  // namespace tdp

#endif  // ENGINE_KVM_BOOT_H_
