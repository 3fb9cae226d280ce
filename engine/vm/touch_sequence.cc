#include "engine/vm/touch_sequence.h"

#include <algorithm>
#include <bit>

namespace tdp {
namespace {

// SplitMix64 of Steele, Lea and Flood: turns seeds that differ a little into
// numbers that differ a lot.
uint64_t SplitMix(uint64_t* state) {
  *state += 0x9e3779b97f4a7c15;
  uint64_t z = *state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

uint64_t HighProduct(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
}

}  // namespace

TouchBlock MakeTouchBlock(const TouchGuestConfig& config) {
  const uint64_t n = config.range.size();
  uint64_t seed = config.seed;
  TouchBlock block;
  block.base_gpa = GpaOf(config.range.start).value();
  block.frame_count = n;
  block.pattern = static_cast<uint64_t>(config.pattern);
  block.write = config.write ? 1 : 0;
  block.pass_count = config.pass_count == 0 ? 1 : config.pass_count;
  // 5 modulo 8: full period modulo every power of two and, from a modulus of
  // 8 on, no multiplier of 1, which would walk in equal strides.
  block.multiplier = (SplitMix(&seed) & ~uint64_t{7}) | 5;
  block.increment = SplitMix(&seed) | 1;
  block.initial_state = SplitMix(&seed);
  block.mask = std::bit_ceil(n) - 1;
  if (config.pattern == TouchPattern::kShuffled) {
    block.initial_state &= block.mask;
  }
  block.hot_count = std::max<uint64_t>(n / 10, 1);
  block.cold_start = n / 10;
  block.cold_count = n - n / 10;
  return block;
}

TouchSequence::TouchSequence(const TouchGuestConfig& config)
    : block_(MakeTouchBlock(config)),
      first_(config.range.start),
      state_(block_.initial_state) {}

bool TouchSequence::Next(Touch* touch) {
  uint64_t index;
  while (!NextIndex(&index)) {
    if (pass_ == block_.pass_count) return false;
    ++pass_;
    left_ =
        block_.pattern == kTouchShuffled ? block_.mask + 1 : block_.frame_count;
  }
  *touch = {first_ + index, static_cast<uint8_t>(pass_)};
  return true;
}

bool TouchSequence::NextIndex(uint64_t* index) {
  const uint64_t n = block_.frame_count;
  while (left_ > 0) {
    --left_;
    switch (block_.pattern) {
      case kTouchShuffled:
        *index = state_;
        Advance();
        state_ &= block_.mask;
        if (*index >= n) continue;
        return true;
      case kTouchUniform:
        Advance();
        *index = HighProduct(state_, n);
        return true;
      case kTouchHotTenth: {
        Advance();
        const uint64_t fraction = state_ * 10;
        *index =
            HighProduct(state_, 10) > 0
                ? HighProduct(fraction, block_.hot_count)
                : HighProduct(fraction, block_.cold_count) + block_.cold_start;
        return true;
      }
      default:
        *index = n - 1 - left_;
        return true;
    }
  }
  return false;
}

void TouchSequence::Advance() {
  state_ = state_ * block_.multiplier + block_.increment;
}

}  // namespace tdp
