// LazyBitmap: a bit for each frame, all of them 0 at first, that takes memory
// where it is touched.
//
// Thread safety: all methods, from any thread. What was written before a bit
// changed is visible to who sees the change.

#ifndef ENGINE_MEMORY_LAZY_BITMAP_H_
#define ENGINE_MEMORY_LAZY_BITMAP_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>

#include "absl/status/statusor.h"

namespace tdp {

class LazyBitmap {
 public:
  static constexpr uint64_t kWordBits = 64;

  // HOST_MEMORY_EXHAUSTED if there is no address space.
  static absl::StatusOr<LazyBitmap> Create(uint64_t bit_count);
  LazyBitmap(LazyBitmap&& other) noexcept;
  LazyBitmap& operator=(LazyBitmap&& other) = delete;
  ~LazyBitmap();

  // Both change bits [first, end).
  void Set(uint64_t first, uint64_t end) const;
  void Clear(uint64_t first, uint64_t end) const;
  // Length of the prefix of [first, end) whose bits are all as the first one,
  // which is returned in `value`. REQUIRES: first < end.
  uint64_t Prefix(uint64_t first, uint64_t end, bool* value) const;

  // Bits 64 * index to 64 * index + 63.
  std::atomic<uint64_t>& word(uint64_t index) const { return words_[index]; }

 private:
  LazyBitmap(std::atomic<uint64_t>* words, uint64_t bytes)
      : words_(words), bytes_(bytes) {}

  std::atomic<uint64_t>* words_;
  uint64_t bytes_;
};

namespace lazy_bitmap_internal {

// The bits of one word that stand for the frames of [first, end).
inline uint64_t MaskOf(uint64_t first, uint64_t end) {
  const uint64_t low = first % LazyBitmap::kWordBits;
  const uint64_t bits = std::min(end - first, LazyBitmap::kWordBits - low);
  const uint64_t ones =
      bits == LazyBitmap::kWordBits ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  return ones << low;
}

// The bits of `bits` that follow each other from that of `first` on.
inline uint64_t PrefixOf(uint64_t bits, uint64_t first) {
  const uint64_t low = first % LazyBitmap::kWordBits;
  const int length = std::countr_one(bits >> low);
  if (length == 0) return 0;
  return bits & MaskOf(first, first + static_cast<uint64_t>(length));
}

// Calls visit(word index, mask) for each word that [first, end) touches, until
// it returns false.
template <typename Visit>
void ForEachWord(uint64_t first, uint64_t end, Visit visit) {
  while (first < end) {
    const uint64_t mask = MaskOf(first, end);
    if (!visit(first / LazyBitmap::kWordBits, mask)) return;
    first += static_cast<uint64_t>(std::popcount(mask));
  }
}

}  // namespace lazy_bitmap_internal
}  // namespace tdp

#endif  // ENGINE_MEMORY_LAZY_BITMAP_H_
