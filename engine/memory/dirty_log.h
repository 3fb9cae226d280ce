// DirtyLog: which frames of a memslot were written, as each consumer sees it.
//
// Every consumer has a bitmap of its own. A write is marked in all of them, and
// stays in each until its consumer clears it. Who hands out the places and ids
// of consumers keeps their names.
//
// Who reads names frames by where the memslot lies. It may lie elsewhere by the
// time that they are cleared: then the clear is refused, because it would be
// of other frames.
//
// Writes become known in one of two ways. Tracked, a guest's write is marked by
// who grants it and owns the entry, before the host allows it; who clears bits
// protects their frames afterwards, waiting for owners, and copies them after
// that. So a write is in the copy, or is marked again. Harvested, the host's
// kernel notes writes, and who is about to read takes what it has noted and
// lets it begin anew; a clear then need not protect anything. A write of the
// daemon is marked either way, once the bytes are there.
//
// Thread safety: Mark(), Read() and Clear() from any thread, at any time. What
// changes consumers is called by one thread at a time.
//
// Invariants: while the log is on, each consumer that was added before the
// frames were last protected has every write since then that it did not clear,
// but for those that are yet to be harvested.

#ifndef ENGINE_MEMORY_DIRTY_LOG_H_
#define ENGINE_MEMORY_DIRTY_LOG_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/base/limits.h"
#include "engine/base/types.h"
#include "engine/memory/lazy_bitmap.h"
#include "engine/sync/mutex.h"
#include "engine/sync/pin_count.h"

namespace tdp {

// A consumer: a place for its bits, which another may take over, and an id,
// which is never used again.
struct DirtyConsumer {
  int place = 0;
  uint64_t id = 0;
};

class DirtyLog {
 public:
  enum class Answer {
    kDone,
    kNoConsumer,  // there is none, or none any longer
    kMoved,       // the memslot lay elsewhere when the consumer last read
  };

  static constexpr int kMaxConsumers = limits::kMaxDirtyConsumers;

  explicit DirtyLog(uint64_t frame_count) : frame_count_(frame_count) {}
  DirtyLog(const DirtyLog&) = delete;
  DirtyLog& operator=(const DirtyLog&) = delete;

  enum class Mode { kOff, kTracks, kHarvests };

  // Sequentially consistent, both: who switches tracking on looks for entries
  // that grant writing afterwards, and who grants it looks here once more when
  // he owns the entry. One of the two sees the other.
  Mode mode() const { return mode_.load(std::memory_order_seq_cst); }
  void set_mode(Mode mode) { mode_.store(mode, std::memory_order_seq_cst); }
  bool on() const { return mode() != Mode::kOff; }
  // Whether writes are to be noticed one by one. Who grants writing to frames
  // of which none is written asks first.
  bool tracks() const { return mode() == Mode::kTracks; }

  // With every bit set, or none. HOST_MEMORY_EXHAUSTED changes nothing.
  // REQUIRES: 0 <= place < kMaxConsumers, free; on Remove, taken.
  absl::Status AddConsumer(DirtyConsumer consumer, bool all_set);
  void RemoveConsumer(DirtyConsumer consumer);
  void RemoveAllConsumers();

  // The frames [first, end) were written. Frames count from the memslot's
  // start.
  void Mark(uint64_t first, uint64_t end);

  // Marks what take(words) has put there: a bit for each frame, lowest first.
  // It writes every word, also if it fails. One harvest at a time: who comes
  // second finds what the first one took.
  absl::Status Harvest(
      absl::FunctionRef<absl::Status(absl::Span<uint64_t>)> take);

  // Both take the frames that `words` stand for, lowest bit first, from `first`
  // on, by their place in a memslot that begins at `base`. `first` may lie
  // before it; bits of no frame are 0.
  //
  // Fills `words`.
  Answer Read(DirtyConsumer consumer, Gfn base, Gfn first,
              absl::Span<uint64_t> words);
  // Clears the bits that are set in `words`, and leaves set there those that
  // were.
  Answer Clear(DirtyConsumer consumer, Gfn base, Gfn first,
               absl::Span<uint64_t> words);

 private:
  struct Consumer {
    // Held by who uses the bitmap.
    PinCount users;
    uint64_t id = 0;
    std::optional<LazyBitmap> bitmap;
    // Where the memslot lay when the consumer last read; kNeverRead before.
    std::atomic<uint64_t> read_base{kNeverRead};
  };
  static constexpr uint64_t kNeverRead = ~uint64_t{0};

  // Calls visit(consumer) for the one at `place` if it has a bitmap, and for
  // each that has one.
  template <typename Visit>
  void WithBitmap(int place, Visit visit);
  template <typename Visit>
  void ForEachBitmap(Visit visit);

  const uint64_t frame_count_;
  std::atomic<Mode> mode_{Mode::kOff};
  // Bit i: place i has a bitmap. A hint: spares Mark() the others.
  std::atomic<uint32_t> present_{0};
  std::array<Consumer, kMaxConsumers> consumers_;

  Mutex harvest_mutex_;
  std::vector<uint64_t> harvested_ ABSL_GUARDED_BY(harvest_mutex_);
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_DIRTY_LOG_H_
