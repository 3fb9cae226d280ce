#include "engine/memory/content_map.h"

#include <bit>
#include <utility>

namespace tdp {
using lazy_bitmap_internal::ForEachWord;
using lazy_bitmap_internal::PrefixOf;

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
  return (claimed_.word(frame / LazyBitmap::kWordBits).load() >>
              (frame % LazyBitmap::kWordBits) &
          1) != 0;
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
