// ChangeSequence: tells a thread that is about to install an entry that what it
// found out about the frame before (its content, its limits, that a vCPU still
// waits for it) may be out of date.
//
//   installer                          changer
//     s = Read(gfn)                      Advance(range)
//     look at content, limits, vCPU      look for entries of the range
//     freeze the entry
//     Changed(gfn, s)? restore it and start anew
//
// Either the changer finds the frozen entry, or the installer finds that the
// sequence has moved: the two accesses of each side are sequentially
// consistent, and neither side looks before it has written. It is KVM's
// mmu_invalidate_seq, counted for each 2 MiB block instead of for the whole VM,
// and without an interval in which every fault has to retry: changes run in
// parallel with faults here, and the FROZEN entry already excludes both from
// one frame. (Linux arch/x86/kvm/mmu/mmu.c, is_page_fault_stale().)
//
// Thread safety: all methods, from any thread.
//
// A fault may also be of a vCPU that somebody else has long served, and that
// went on: its event was read, but not answered yet. To serve it would note a
// touch, or a write, that was made before somebody took note and cleared it. So
// who clears Accessed or Writable for that purpose calls Sweep() on the frames
// while he owns their entries, and who reads events asks for sweeps() before.
//
// Invariants: an entry that is installed reflects everything that was changed
// by an Advance() that returned before its sequence was read. Where sweeps() is
// after the sequence was read what it was before the event was read, and the
// sequence has not changed when the entry is frozen, the access was not made
// before the last Sweep() of its frame.

#ifndef ENGINE_MMU_CHANGE_SEQUENCE_H_
#define ENGINE_MMU_CHANGE_SEQUENCE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/base/test_hooks.h"
#include "engine/base/types.h"

namespace tdp {

class ChangeSequence {
 public:
  // What Read() saw.
  struct Snapshot {
    uint64_t block = 0;
    uint64_t all = 0;

    friend bool operator==(Snapshot, Snapshot) = default;
  };

  // Sequentially consistent, as are the compare-exchange that freezes an entry
  // and the load that looks for one: see above.
  Snapshot Read(Gfn gfn) const {
    test_hooks::BeforeStep(TestStep::kReadSequence, this);
    return {BlockOf(gfn).load(std::memory_order_seq_cst),
            all_.load(std::memory_order_seq_cst)};
  }
  bool Changed(Gfn gfn, Snapshot seen) const {
    return Read(gfn) != seen || test_hooks::ForcesRetry();
  }

  // Before the entries of `range` are looked at.
  void Advance(GfnRange range) {
    if (range.empty()) return;
    test_hooks::BeforeStep(TestStep::kAdvanceSequence, this);
    const uint64_t first = range.start.value() / kBlockFrames;
    const uint64_t last = (range.end.value() - 1) / kBlockFrames;
    if (last - first >= kSlots) {
      AdvanceAll();
      return;
    }
    for (uint64_t block = first; block <= last; ++block) {
      blocks_[block % kSlots].fetch_add(1, std::memory_order_seq_cst);
    }
  }
  void AdvanceAll() {
    test_hooks::BeforeStep(TestStep::kAdvanceSequence, this);
    all_.fetch_add(1, std::memory_order_seq_cst);
  }

  // The caller owns the entries of `range`, which is not larger than a block.
  void Sweep(GfnRange range) {
    BeginSweep();
    Advance(range);
  }
  // For who advances the sequence of all of them afterwards, owning them still.
  void BeginSweep() { sweeps_.fetch_add(1, std::memory_order_seq_cst); }
  uint64_t sweeps() const { return sweeps_.load(std::memory_order_seq_cst); }

 private:
  static constexpr uint64_t kBlockFrames = FramesPerEntry(PageLevel::k2M);
  // Blocks that share a counter only cost each other a retry.
  static constexpr size_t kSlots = 1024;

  const std::atomic<uint64_t>& BlockOf(Gfn gfn) const {
    return blocks_[(gfn.value() / kBlockFrames) % kSlots];
  }

  std::array<std::atomic<uint64_t>, kSlots> blocks_{};
  std::atomic<uint64_t> all_{0};
  std::atomic<uint64_t> sweeps_{0};
};

}  // namespace tdp

#endif  // ENGINE_MMU_CHANGE_SEQUENCE_H_
