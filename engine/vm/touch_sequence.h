// TouchSequence: which frames a touch guest touches, in which order, with
// which byte. This is the one statement of the algorithm; the KVM program
// (engine/kvm/touch_program.cc) executes it from the same numbers.
//
// A guest makes `pass_count` passes, numbered from 1, over n frames. A touch
// is of the frame's first byte; a write stores the low byte of the pass number.
// The random patterns draw from x' = a * x + c modulo 2^64, where a, c and the
// first x come from the seed; x goes on from pass to pass.
//
//   SEQUENTIAL  frames 0 to n - 1.
//   SHUFFLED    the same recurrence modulo m, the power of two that is at
//               least n. a % 4 == 1 and c is odd, so x takes each value below
//               m once in m steps (Hull and Dobell). A pass looks at m values
//               of x, beginning with the present one, and skips those that
//               are not below n. All passes have the same order.
//   UNIFORM     n touches. Each advances x once and takes frame
//               floor(x * n / 2^64).
//   HOT_TENTH   n touches. Each advances x once and splits 10 * x / 2^64 into
//               its integer part d and fraction f. If d > 0 (nine times of
//               ten) it takes one of the h = max(1, n / 10) hot frames at the
//               start of the range, floor(f * h); else one of the others,
//               floor(f * (n - n / 10)) after the first n / 10.
//
// Thread safety: a TouchSequence belongs to one thread.

#ifndef ENGINE_VM_TOUCH_SEQUENCE_H_
#define ENGINE_VM_TOUCH_SEQUENCE_H_

#include <cstdint>

#include "engine/base/types.h"
#include "engine/kvm/touch_program.h"
#include "engine/vm/vm_types.h"

namespace tdp {

// The numbers for a guest that runs `config`: a block for the KVM program, with
// a count of 0, and the input of TouchSequence.
// REQUIRES: config.range is not empty; pass_count >= -1.
TouchBlock MakeTouchBlock(const TouchGuestConfig& config);

struct Touch {
  Gfn gfn;
  uint8_t value = 0;  // what a write stores
};

class TouchSequence {
 public:
  explicit TouchSequence(const TouchGuestConfig& config);

  // Puts the next touch into `*touch`; false if all passes are done.
  bool Next(Touch* touch);

 private:
  // Index of the next frame of this pass; false if the pass is over.
  bool NextIndex(uint64_t* index);
  void Advance();

  const TouchBlock block_;
  const Gfn first_;
  uint64_t state_;
  int64_t pass_ = 0;   // 0 before the first
  uint64_t left_ = 0;  // touches, or steps, left in this pass
};

}  // namespace tdp

#endif  // ENGINE_VM_TOUCH_SEQUENCE_H_
