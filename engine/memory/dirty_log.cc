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

  // Fills `out` with the bits from `first` on.
  void Read(int64_t first, absl::Span<uint64_t> out) const {
    auto [index, shift] = PlaceOf(first);
    const auto word = [&](int64_t i) {
      return Has(i) ? At(i).load(std::memory_order_acquire) : 0;
    };
    if (shift == 0) {
      for (uint64_t& bits : out) bits = word(index++);
      return;
    }
    uint64_t low = word(index);
    for (uint64_t& bits : out) {
      const uint64_t high = word(++index);
      bits = Join(low, high, shift);
      low = high;
    }
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

absl::Status DirtyLog::AddConsumer(DirtyConsumer consumer, bool all_set) {
  absl::StatusOr<LazyBitmap> bitmap = LazyBitmap::Create(frame_count_);
  if (!bitmap.ok()) return bitmap.status();
  if (all_set) bitmap->Set(0, frame_count_);
  Consumer& added = consumers_[static_cast<size_t>(consumer.place)];
  added.users.CloseAndDrain();
  added.id = consumer.id;
  added.bitmap.emplace(*std::move(bitmap));
  added.read_base.store(kNeverRead, std::memory_order_relaxed);
  added.users.Reopen();
  present_.fetch_or(uint32_t{1} << consumer.place, std::memory_order_release);
  return absl::OkStatus();
}

void DirtyLog::RemoveConsumer(DirtyConsumer consumer) {
  Consumer& removed = consumers_[static_cast<size_t>(consumer.place)];
  present_.fetch_and(~(uint32_t{1} << consumer.place),
                     std::memory_order_relaxed);
  removed.users.CloseAndDrain();
  removed.bitmap.reset();
  removed.users.Reopen();
}

void DirtyLog::RemoveAllConsumers() {
  for (int place = 0; place < kMaxConsumers; ++place) {
    // Relaxed: this thread is the one that changes it.
    if (present_.load(std::memory_order_relaxed) >> place & 1) {
      RemoveConsumer({.place = place});
    }
  }
}

template <typename Visit>
void DirtyLog::WithBitmap(int place, Visit visit) {
  Consumer& consumer = consumers_[static_cast<size_t>(place)];
  if (!consumer.users.TryPin()) return;
  if (consumer.bitmap.has_value()) visit(consumer);
  consumer.users.Unpin();
}

template <typename Visit>
void DirtyLog::ForEachBitmap(Visit visit) {
  const uint32_t present = present_.load(std::memory_order_acquire);
  for (int place = 0; present >> place != 0; ++place) {
    if ((present >> place & 1) != 0) WithBitmap(place, visit);
  }
}

void DirtyLog::Mark(uint64_t first, uint64_t end) {
  ForEachBitmap(
      [&](const Consumer& consumer) { consumer.bitmap->Set(first, end); });
}

absl::Status DirtyLog::Harvest(
    absl::FunctionRef<absl::Status(absl::Span<uint64_t>)> take) {
  MutexLock lock(harvest_mutex_);
  harvested_.resize((frame_count_ + kWordBits - 1) / kWordBits);
  // What was taken before a failure is not taken again, so it counts.
  const absl::Status status = take(absl::MakeSpan(harvested_));
  ForEachBitmap([&](const Consumer& consumer) {
    harvest_mutex_.AssertHeld();
    for (size_t i = 0; i < harvested_.size(); ++i) {
      if (harvested_[i] == 0) continue;
      consumer.bitmap->word(i).fetch_or(harvested_[i],
                                        std::memory_order_acq_rel);
    }
  });
  return status;
}

DirtyLog::Answer DirtyLog::Read(DirtyConsumer consumer, Gfn base, Gfn first,
                                absl::Span<uint64_t> words) {
  const auto at = static_cast<int64_t>(first.value() - base.value());
  Answer answer = Answer::kNoConsumer;
  WithBitmap(consumer.place, [&](Consumer& reader) {
    if (reader.id != consumer.id) return;
    answer = Answer::kDone;
    // Relaxed: the memslot is pinned by who reads and by who clears, and has
    // moved in between or has not.
    reader.read_base.store(base.value(), std::memory_order_relaxed);
    Words(*reader.bitmap, frame_count_).Read(at, words);
  });
  return answer;
}

DirtyLog::Answer DirtyLog::Clear(DirtyConsumer consumer, Gfn base, Gfn first,
                                 absl::Span<uint64_t> words) {
  auto at = static_cast<int64_t>(first.value() - base.value());
  Answer answer = Answer::kNoConsumer;
  WithBitmap(consumer.place, [&](Consumer& reader) {
    if (reader.id != consumer.id) return;
    const uint64_t read_base = reader.read_base.load(std::memory_order_relaxed);
    if (read_base != kNeverRead && read_base != base.value()) {
      answer = Answer::kMoved;
      return;
    }
    answer = Answer::kDone;
    const Words all(*reader.bitmap, frame_count_);
    for (uint64_t& word : words) {
      word = all.Clear(at, word);
      at += kWordBits;
    }
  });
  return answer;
}

}  // namespace tdp
