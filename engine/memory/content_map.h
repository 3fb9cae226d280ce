// ContentMap: which frames of a memslot have their content, and who is at work
// on the others.
//
// A frame is missing until its page and its bytes are there, then ready. Who
// wants to change that, or the bytes themselves, claims the frame first, so
// that no frame is loaded twice, or over a write, or during a discard. Reading
// asks for no claim.
//
// Invariants: a claimed frame is changed by its claimer only. A thread holds
// one piece at a time, so that claims cannot deadlock. Memory grows with the
// frames in use, not with the size of the memslot.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_MEMORY_CONTENT_MAP_H_
#define ENGINE_MEMORY_CONTENT_MAP_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/memory/lazy_bitmap.h"
#include "engine/sync/mutex.h"

namespace tdp {

class ContentMap {
 public:
  enum class Want {
    kMissing,  // claims missing frames, reports ready ones
    kAll,      // claims every frame
  };
  enum class State { kMissing, kReady };

  // The first `count` frames of what was asked for are in one state.
  struct Piece {
    uint64_t count = 0;
    State state = State::kMissing;
    bool claimed = false;
  };

  static absl::StatusOr<std::unique_ptr<ContentMap>> Create(
      uint64_t frame_count);
  ContentMap(const ContentMap&) = delete;
  ContentMap& operator=(const ContentMap&) = delete;

  // Length of the prefix of [first, end) that is in one state, without
  // claiming it. What was written before frames became ready is visible to who
  // sees them ready. REQUIRES: first < end.
  Piece Look(uint64_t first, uint64_t end) const;

  // Whether a thread is at work on the frame: Take() would wait for it.
  bool IsClaimed(uint64_t frame) const;

  // Takes a prefix of [first, end). Waits while another thread has claimed the
  // first frame. REQUIRES: first < end; the caller has no other piece.
  Piece Take(uint64_t first, uint64_t end, Want want);

  // Ends the claim on [first, end); the frames are in `state` from now on. A
  // piece may be ended in parts. REQUIRES: claimed by the caller.
  void Finish(uint64_t first, uint64_t end, State state);

 private:
  ContentMap(LazyBitmap ready, LazyBitmap claimed)
      : ready_(std::move(ready)), claimed_(std::move(claimed)) {}

  void ClearClaim(uint64_t word, uint64_t mask);
  void WakeWaiters();
  void WaitForClaim(uint64_t frame);

  const LazyBitmap ready_;
  // seq_cst throughout: see WaitForClaim().
  const LazyBitmap claimed_;
  std::atomic<int> waiter_count_{0};
  Mutex mutex_;  // for claim_ended_ only
  CondVar claim_ended_;
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_CONTENT_MAP_H_
