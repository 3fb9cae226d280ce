#include "engine/memory/dirty_log.h"

#include <utility>

#include "absl/status/statusor.h"

namespace tdp {
namespace {

constexpr int64_t kWordBits = LazyBitmap::kWordBits;

// Where 64 bits from a frame on lie: in the high bits of word `index`, and in
// the low ones of the next.
struct Place {
  int64_t index;
  int shift;
};
constexpr Place PlaceOf(int64_t first) {
  const int64_t shift = ((first % kWordBits) + kWordBits) % kWordBits;
  return {(first - shift) / kWordBits, static_cast<int>(shift)};
}
// The 64 bits that begin `shift` bits into `low`.
constexpr uint64_t Join(uint64_t low, uint64_t high, int shift) {
  return shift == 0 ? low : low >> shift | high << (kWordBits - shift);
}

// The memslot's words; there are none before and behind them.
class Words {
 public:
  Words(const LazyBitmap& bitmap, uint64_t frame_count)
      : bitmap_(bitmap),
        count_((static_cast<int64_t>(frame_count) + kWordBits - 1) /
               kWordBits) {}

  uint64_t Read(int64_t first) const {
    const auto [index, shift] = PlaceOf(first);
    const auto word = [&](int64_t i) {
      return Has(i) ? At(i).load(std::memory_order_acquire) : 0;
    };
    return Join(word(index), word(index + 1), shift);
  }
  // Returns which bits of `bits` were set.
  uint64_t Clear(int64_t first, uint64_t bits) const {
    const auto [index, shift] = PlaceOf(first);
    const auto clear = [&](int64_t i, uint64_t mask) {
      return mask != 0 && Has(i)
                 ? At(i).fetch_and(~mask, std::memory_order_acq_rel) & mask
                 : 0;
    };
    const uint64_t low = clear(index, bits << shift);
    const uint64_t high =
        shift == 0 ? 0 : clear(index + 1, bits >> (kWordBits - shift));
    return Join(low, high, shift);
  }

 private:
  bool Has(int64_t i) const { return i >= 0 && i < count_; }
  std::atomic<uint64_t>& At(int64_t i) const {
    return bitmap_.word(static_cast<uint64_t>(i));
  }

  const LazyBitmap& bitmap_;
  const int64_t count_;
};

}  // namespace

absl::Status DirtyLog::AddConsumer(int consumer, bool all_set) {
  absl::StatusOr<LazyBitmap> bitmap = LazyBitmap::Create(frame_count_);
  if (!bitmap.ok()) return bitmap.status();
  if (all_set) bitmap->Set(0, frame_count_);
  Consumer& added = consumers_[static_cast<size_t>(consumer)];
  added.users.CloseAndDrain();
  added.bitmap.emplace(*std::move(bitmap));
  added.users.Reopen();
  present_.fetch_or(uint32_t{1} << consumer, std::memory_order_release);
  return absl::OkStatus();
}

void DirtyLog::RemoveConsumer(int consumer) {
  Consumer& removed = consumers_[static_cast<size_t>(consumer)];
  present_.fetch_and(~(uint32_t{1} << consumer), std::memory_order_relaxed);
  removed.users.CloseAndDrain();
  removed.bitmap.reset();
  removed.users.Reopen();
}

void DirtyLog::RemoveAllConsumers() {
  for (int consumer = 0; consumer < kMaxConsumers; ++consumer) {
    // Relaxed: this thread is the one that changes it.
    if (present_.load(std::memory_order_relaxed) >> consumer & 1) {
      RemoveConsumer(consumer);
    }
  }
}

template <typename Visit>
bool DirtyLog::WithBitmap(int consumer, Visit visit) {
  Consumer& user = consumers_[static_cast<size_t>(consumer)];
  if (!user.users.TryPin()) return false;
  const bool found = user.bitmap.has_value();
  if (found) visit(*user.bitmap);
  user.users.Unpin();
  return found;
}

void DirtyLog::Mark(uint64_t first, uint64_t end) {
  const uint32_t present = present_.load(std::memory_order_acquire);
  for (int consumer = 0; present >> consumer != 0; ++consumer) {
    if ((present >> consumer & 1) == 0) continue;
    WithBitmap(consumer,
               [&](const LazyBitmap& bitmap) { bitmap.Set(first, end); });
  }
}

bool DirtyLog::Read(int consumer, int64_t first, absl::Span<uint64_t> words) {
  return WithBitmap(consumer, [&](const LazyBitmap& bitmap) {
    const Words all(bitmap, frame_count_);
    for (uint64_t& word : words) {
      word = all.Read(first);
      first += kWordBits;
    }
  });
}

bool DirtyLog::Clear(int consumer, int64_t first, absl::Span<uint64_t> words) {
  return WithBitmap(consumer, [&](const LazyBitmap& bitmap) {
    const Words all(bitmap, frame_count_);
    for (uint64_t& word : words) {
      word = all.Clear(first, word);
      first += kWordBits;
    }
  });
}

}  // namespace tdp
