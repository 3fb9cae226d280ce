// PrivateMemory: the daemon's own part of a VM's guest memory, laid out as in
// guest_layout.h. It is ordinary memory that no userfaultfd watches: what a
// guest does there never shows in a count, a walk or an event.
//
// A guest in 64-bit mode can reach it and may destroy it; that harms this
// guest only, and Install() makes it new.
//
// Thread safety: Install() and Remove() by one thread at a time, while no vCPU
// of the VM is in the guest. The rest from any thread.

#ifndef ENGINE_KVM_PRIVATE_MEMORY_H_
#define ENGINE_KVM_PRIVATE_MEMORY_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/types.h"
#include "engine/kvm/guest_layout.h"
#include "engine/kvm/kvm_vm.h"
#include "engine/kvm/touch_program.h"

namespace tdp {

class PrivateMemory {
 public:
  // For a VM of `vcpu_count` vCPUs, at `base` (see PrivateBase()).
  static absl::StatusOr<std::unique_ptr<PrivateMemory>> Create(Gpa base,
                                                               int vcpu_count);
  PrivateMemory(const PrivateMemory&) = delete;
  PrivateMemory& operator=(const PrivateMemory&) = delete;
  // REQUIRES: removed from the VM, or the VM is gone.
  ~PrivateMemory();

  // Writes the GDT, the touch program and an identity map of `ranges` and of
  // this memory itself, and makes it memslot `slot_id` of `vm`. If it is one
  // already, it is taken out first: KVM may keep copies of guest page tables,
  // and only that makes it forget them.
  //
  // The map has pages of 2 MiB: it also covers the rest of each 2 MiB that
  // holds a frame of `ranges`. An access there finds no memory (MMIO), one
  // elsewhere has no translation (SHUTDOWN, for there is no IDT).
  //
  // LIMIT_REACHED if the map does not fit: 62 MiB of tables map some 15 TiB.
  absl::Status Install(KvmVm& vm, uint32_t slot_id,
                       absl::Span<const GfnRange> ranges);
  // Takes the memslot out, if it is in.
  absl::Status Remove(KvmVm& vm);

  Gpa base() const { return base_; }
  Hva hva() const;
  Gpa page_table_root() const { return base_ + kPageTableRootOffset; }
  Gpa gdt() const { return base_ + kGdtOffset; }
  // The top of a vCPU's stack, 16-byte aligned.
  Gpa stack_top(int vcpu_index) const;
  Gpa touch_program_entry() const { return base_ + kTouchProgramOffset; }
  Gpa touch_block_gpa(int vcpu_index) const;
  // The same block as the daemon sees it. Lives as long as this object.
  TouchBlock* touch_block(int vcpu_index) const;

 private:
  PrivateMemory(Gpa base, uint8_t* memory) : base_(base), memory_(memory) {}

  absl::Status BuildIdentityMap(absl::Span<const GfnRange> ranges);
  absl::Status MapLargePage(Gpa gpa);
  // The table below entry `index` of `table`; null if there is no room for a
  // new one.
  uint64_t* TableBelow(uint64_t* table, uint64_t index);
  void WriteGdt();

  const Gpa base_;
  uint8_t* const memory_;
  // First byte that no table takes yet.
  uint64_t next_table_offset_ = kTablesOffset;
  bool installed_ = false;
  uint32_t slot_id_ = 0;
};

}  // namespace tdp

#endif  // ENGINE_KVM_PRIVATE_MEMORY_H_
