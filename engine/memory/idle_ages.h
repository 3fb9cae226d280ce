// IdleAges: for each frame of a memslot, when a scan last saw it used, and what
// those who age frames have to tell each other.
//
// Aging clears Accessed bits, so of two who age only the first one finds that a
// frame was used. Whoever finds it therefore leaves word for both readers, the
// scanner and the clients; each of them takes its own word, and does not see
// the other's taken. Looking at entries, aging them and taking the word are one
// step for others, under mutex().
//
// Frames count from the memslot's start, so that ages move with it. 4 bytes
// and 2 bits are kept for each frame, where they are touched. The clients' bits
// stay when nobody scans any more: what they have not taken is theirs.
//
// Thread safety: all methods, from any thread, as annotated.

#ifndef ENGINE_MEMORY_IDLE_AGES_H_
#define ENGINE_MEMORY_IDLE_AGES_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/memory/lazy_bitmap.h"
#include "engine/sync/mutex.h"

namespace tdp {

class IdleAges {
 public:
  enum class Reader { kScanner, kClient };

  // An age that is longer is given as this one.
  static constexpr absl::Duration kMaxAge =
      absl::Milliseconds(int64_t{1} << 31);

  explicit IdleAges(uint64_t frame_count) : frame_count_(frame_count) {}
  IdleAges(const IdleAges&) = delete;
  IdleAges& operator=(const IdleAges&) = delete;

  // Begins to keep ages and words; no frame has an age yet. Does nothing if
  // ages are kept. HOST_MEMORY_EXHAUSTED changes nothing.
  absl::Status Keep() ABSL_LOCKS_EXCLUDED(mutex_);
  // Forgets all ages and the scanner's words, and gives back their memory.
  void Drop() ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex& mutex() ABSL_LOCK_RETURNED(mutex_) { return mutex_; }
  // Whether there may be word for clients: from the first Keep() on.
  bool has_words() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return client_words_.has_value();
  }
  // Whether there are ages, and word for the scanner.
  bool kept() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return scans_.has_value();
  }

  // The rest REQUIRES: 0 <= first < end <= frame_count; has_words(), and for
  // ages and the scanner's words kept().

  // The frames [first, end) were used.
  void LeaveWord(uint64_t first, uint64_t end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether there is word of a frame of [first, end).
  bool HasWord(Reader reader, uint64_t first, uint64_t end) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeWord(Reader reader, uint64_t first, uint64_t end)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Times are those of one monotonic clock. Resolution: a millisecond.
  void SetLastUse(uint64_t first, uint64_t end, absl::Duration time)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Since the last use of any frame of [first, end); nothing if none has one.
  // REQUIRES: it is asked about, or set anew, more often than every kMaxAge.
  std::optional<absl::Duration> IdleAge(uint64_t first, uint64_t end,
                                        absl::Duration now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

 private:
  // One time for each frame, 0 for none: milliseconds modulo 2^32.
  class Times {
   public:
    static absl::StatusOr<Times> Create(uint64_t count);
    Times(Times&& other) noexcept
        : times_(std::exchange(other.times_, nullptr)), bytes_(other.bytes_) {}
    Times& operator=(Times&&) = delete;
    ~Times();
    uint32_t& operator[](uint64_t index) { return times_[index]; }

   private:
    Times(uint32_t* times, uint64_t bytes) : times_(times), bytes_(bytes) {}
    uint32_t* times_;
    uint64_t bytes_;
  };
  struct Scans {
    LazyBitmap words;
    Times times;
  };
  const LazyBitmap& WordsOf(Reader reader) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return reader == Reader::kScanner ? scans_->words : *client_words_;
  }

  const uint64_t frame_count_;
  Mutex mutex_;
  std::optional<LazyBitmap> client_words_ ABSL_GUARDED_BY(mutex_);
  std::optional<Scans> scans_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_IDLE_AGES_H_
