// The built-in 64-bit guest that touches frames.
//
// It is position independent and needs no stack: the private memory holds one
// copy of the code and, for each vCPU, a TouchBlock whose address it finds in
// RDI. It touches the first byte of each frame in the order that the block's
// pattern and numbers describe (engine/vm/touch_sequence.h states the
// algorithm), adds each touch to `touched_count` after it is done, and halts.
//
// Its cost is counted in instructions, because there are hosts where KVM
// emulates each of them (0.6 us): an ascending pass takes two and a half for
// each frame.
//
// Thread safety: values and constants. The guest writes touched_count while
// the daemon reads it, see TouchedCount().

#ifndef ENGINE_KVM_TOUCH_PROGRAM_H_
#define ENGINE_KVM_TOUCH_PROGRAM_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace tdp {

// `pattern` of a block.
inline constexpr uint64_t kTouchAscending = 1;
inline constexpr uint64_t kTouchShuffled = 2;
inline constexpr uint64_t kTouchUniform = 3;
inline constexpr uint64_t kTouchHotTenth = 4;

// Shared with the machine code, which knows the offsets.
struct TouchBlock {
  uint64_t base_gpa = 0;     // of the first frame
  uint64_t frame_count = 0;  // > 0
  uint64_t pattern = kTouchAscending;
  uint64_t write = 0;       // 1: write the low byte of the pass number
  int64_t pass_count = 1;   // -1: without end
  uint64_t multiplier = 0;  // of the generator
  uint64_t increment = 0;
  uint64_t initial_state = 0;
  uint64_t mask = 0;        // kTouchShuffled: period - 1
  uint64_t hot_count = 0;   // kTouchHotTenth: hot frames
  uint64_t cold_start = 0;  // kTouchHotTenth: first of the cold frames
  uint64_t cold_count = 0;  // kTouchHotTenth
  uint64_t unused[4] = {};
  // Output, in a cache line of its own.
  uint64_t touched_count = 0;
};
static_assert(offsetof(TouchBlock, touched_count) == 0x80);

// The machine code; at most one page.
absl::Span<const uint8_t> TouchProgramCode();

// What the guest has touched so far. May be called while it runs.
inline uint64_t TouchedCount(const TouchBlock& block) {
  return __atomic_load_n(&block.touched_count, __ATOMIC_RELAXED);
}

}  // namespace tdp

#endif  // ENGINE_KVM_TOUCH_PROGRAM_H_
