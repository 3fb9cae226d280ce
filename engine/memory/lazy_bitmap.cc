#include "engine/memory/lazy_bitmap.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {

using lazy_bitmap_internal::ForEachWord;
using lazy_bitmap_internal::PrefixOf;

absl::StatusOr<LazyBitmap> LazyBitmap::Create(uint64_t bit_count) {
  const uint64_t bytes = (bit_count + kWordBits - 1) / kWordBits * 8;
  void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    return MakeError(ErrorReason::kHostMemoryExhausted,
                     absl::StrCat("the host has no room for ", bytes,
                                  " bytes of bookkeeping (", strerror(errno),
                                  "); choose a smaller frame_count or delete "
                                  "memslots"),
                     {{"sizeBytes", absl::StrCat(bytes)}});
  }
  return LazyBitmap(static_cast<std::atomic<uint64_t>*>(start), bytes);
}

LazyBitmap::LazyBitmap(LazyBitmap&& other) noexcept
    : words_(std::exchange(other.words_, nullptr)), bytes_(other.bytes_) {}

LazyBitmap::~LazyBitmap() {
  if (words_ != nullptr) munmap(words_, bytes_);
}

void LazyBitmap::Set(uint64_t first, uint64_t end) const {
  ForEachWord(first, end, [&](uint64_t index, uint64_t mask) {
    word(index).fetch_or(mask, std::memory_order_release);
    return true;
  });
}

void LazyBitmap::Clear(uint64_t first, uint64_t end) const {
  ForEachWord(first, end, [&](uint64_t index, uint64_t mask) {
    word(index).fetch_and(~mask, std::memory_order_release);
    return true;
  });
}

uint64_t LazyBitmap::Prefix(uint64_t first, uint64_t end, bool* value) const {
  uint64_t count = 0;
  ForEachWord(first, end, [&](uint64_t index, uint64_t mask) {
    const uint64_t bits = word(index).load(std::memory_order_acquire);
    if (count == 0) *value = (bits >> (first % kWordBits) & 1) != 0;
    const uint64_t same =
        PrefixOf((*value ? bits : ~bits) & mask, first + count);
    count += static_cast<uint64_t>(std::popcount(same));
    return same == mask;
  });
  return count;
}

}  // namespace tdp
