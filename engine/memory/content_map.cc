#include "engine/memory/content_map.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"

namespace tdp {
namespace {

constexpr uint64_t kWordBits = 64;

// The bits of one word that stand for the frames of [first, end).
uint64_t MaskOf(uint64_t first, uint64_t end) {
  const uint64_t low = first % kWordBits;
  const uint64_t bits = std::min(end - first, kWordBits - low);
  const uint64_t ones =
      bits == kWordBits ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  return ones << low;
}

// The bits of `bits` that follow each other from that of `first` on.
uint64_t PrefixOf(uint64_t bits, uint64_t first) {
  const uint64_t low = first % kWordBits;
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
    if (!visit(first / kWordBits, mask)) return;
    first += static_cast<uint64_t>(std::popcount(mask));
  }
}

}  // namespace

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

absl::StatusOr<std::unique_ptr<ContentMap>> ContentMap::Create(
    uint64_t frame_count) {
  absl::StatusOr<LazyBitmap> ready = LazyBitmap::Create(frame_count);
  if (!ready.ok()) return ready.status();
  absl::StatusOr<LazyBitmap> claimed = LazyBitmap::Create(frame_count);
  if (!claimed.ok()) return claimed.status();
  return std::unique_ptr<ContentMap>(
      new ContentMap(*std::move(ready), *std::move(claimed)));
}

ContentMap::Piece ContentMap::Look(uint64_t first, uint64_t end) const {
  Piece piece;
  bool ready = false;
  piece.count = ready_.Prefix(first, end, &ready);
  piece.state = ready ? State::kReady : State::kMissing;
  return piece;
}

ContentMap::Piece ContentMap::Take(uint64_t first, uint64_t end, Want want) {
  while (true) {
    Piece piece = Look(first, end);
    if (piece.state == State::kReady && want == Want::kMissing) return piece;
    // Claims what is free, word by word, as long as it follows on. Only a
    // claim keeps the state from changing, so the state is checked again.
    const State state = piece.state;
    const uint64_t limit = first + piece.count;
    piece.count = 0;
    ForEachWord(first, limit, [&](uint64_t index, uint64_t mask) {
      const uint64_t position = first + piece.count;
      const uint64_t free =
          PrefixOf(~claimed_.word(index).load() & mask, position);
      if (free == 0) return false;
      const uint64_t got = free & ~claimed_.word(index).fetch_or(free);
      const uint64_t ready = ready_.word(index).load(std::memory_order_acquire);
      const uint64_t kept =
          PrefixOf(got & (state == State::kReady ? ready : ~ready), position);
      if (got != kept) ClearClaim(index, got & ~kept);
      piece.count += static_cast<uint64_t>(std::popcount(kept));
      return kept == mask;
    });
    if (piece.count > 0) {
      piece.claimed = true;
      return piece;
    }
    WaitForClaim(first);
  }
}

void ContentMap::Finish(uint64_t first, uint64_t end, State state) {
  if (state == State::kReady) {
    ready_.Set(first, end);
  } else {
    ready_.Clear(first, end);
  }
  ForEachWord(first, end, [&](uint64_t index, uint64_t mask) {
    claimed_.word(index).fetch_and(~mask);
    return true;
  });
  WakeWaiters();
}

bool ContentMap::IsClaimed(uint64_t frame) const {
  return (claimed_.word(frame / kWordBits).load() >> (frame % kWordBits) & 1) !=
         0;
}

void ContentMap::ClearClaim(uint64_t word, uint64_t mask) {
  claimed_.word(word).fetch_and(~mask);
  WakeWaiters();
}

// A waiter announces itself, then looks at the claim; who ends a claim clears
// it, then looks for waiters. In one total order (seq_cst) at least one of the
// two sees the other.
void ContentMap::WakeWaiters() {
  if (waiter_count_.load() == 0) return;
  MutexLock lock(mutex_);
  claim_ended_.NotifyAll();
}

void ContentMap::WaitForClaim(uint64_t frame) {
  MutexLock lock(mutex_);
  waiter_count_.fetch_add(1);
  while (IsClaimed(frame)) claim_ended_.Wait(mutex_);
  waiter_count_.fetch_sub(1);
}

}  // namespace tdp
