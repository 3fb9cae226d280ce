// What the page tables need from the memory below them: the contract between
// engine/mmu, which decides, and engine/memory, which makes it true.
//
// A Backing is one memslot as the tables see it: which frames it holds, what it
// allows, and the host calls that change what the guest's window maps. A host
// call is made only by the thread that owns the FROZEN entries of its run.
//
// A run lies inside one Backing, consists of whole host pages, and covers at
// most limits::kMaxHostCallFrames frames. No host call takes mmu_lock,
// allocates tables or waits for another owner.
//
// Thread safety: all methods, from any thread, on a pinned Backing.

#ifndef ENGINE_BASE_BACKING_H_
#define ENGINE_BASE_BACKING_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/base/types.h"

namespace tdp {

enum class HostProtection { kReadOnly, kReadWrite };

// What became of a host call: the first `done_frames` frames of the run are in
// the new state. `error` is 0 if the run is done, else an errno; then Map() has
// left the rest as it was, Unmap() may have removed some of it, and Protect()
// may have changed some of it.
struct HostCallResult {
  uint64_t done_frames = 0;
  int error = 0;
};

// What the host maps into the window for one frame.
struct HostFrame {
  bool present = false;
  bool writable = false;  // present and not write-protected
};

class Backing {
 public:
  virtual ~Backing() = default;

  // Frames held. Constant while the Backing is pinned.
  virtual GfnRange range() const = 0;
  // Backing frame of range().start; congruent to it modulo 2^18, so that huge
  // leaves are legal. Two Backings never share or touch PFN ranges.
  virtual Pfn base_pfn() const = 0;
  // The memslot allows writes. Constant while pinned.
  virtual bool writable() const = 0;
  // The dirty log is on: writing is granted frame by frame, by the fault that
  // writes. May change at any time; who switches it on write-protects the range
  // afterwards.
  virtual bool tracks_writes() const = 0;
  // A write to a frame that is mapped read-only faults. Where not, every leaf
  // has to grant writing. Constant.
  virtual bool write_protects() const { return true; }
  // Largest leaf that a guest fault may install; no smaller than a host page.
  virtual PageLevel max_fault_level() const = 0;
  // Size of the pages that the host maps: k4K or k2M. The range consists of
  // whole ones. With k2M each leaf is one: who publishes the Backing has
  // removed the tables of 4K entries before.
  virtual PageLevel host_page_level() const = 0;

  // How many frames a guest fault may map at once, those around it where
  // ReadyAround() says so.
  virtual int fault_around() const = 0;
  // The frames of `window` around `gfn`, which has its content, that have
  // theirs, without a gap.
  virtual GfnRange ReadyAround(Gfn gfn, GfnRange window) = 0;

  // Gives every frame of `run` its page and its bytes (zero, or from the
  // source), without touching the window. May block on file I/O; call it
  // holding nothing. SOURCE_FAILED and HOST_MEMORY_EXHAUSTED name the frame.
  // Quick where the content is there already.
  virtual absl::Status LoadContent(GfnRange run) = 0;

  // Host calls. None of them wakes a sleeping vCPU: the owner calls Wake()
  // after it has written the final values, on success and on failure.
  //
  // Maps the run with `protection`. Frames that are mapped already get the
  // protection. EFAULT: a frame has no content (a discard won); load it again.
  virtual HostCallResult Map(GfnRange run, HostProtection protection) = 0;
  // Removes the run from the window; the bytes stay.
  virtual HostCallResult Unmap(GfnRange run) = 0;
  // Changes the protection of mapped frames; leaves unmapped ones unmapped.
  virtual HostCallResult Protect(GfnRange run, HostProtection protection) = 0;
  // A guest's write to the frame, and so to its host page, is granted. Called
  // by the owner of its entry, before the host call after which anybody can
  // write.
  virtual void NoteWritten(Gfn gfn) = 0;
  // Lets every thread that sleeps in a fault on the run look again.
  virtual void Wake(GfnRange run) = 0;

  // Reads what the host maps; `frames` has one element for each frame of `run`.
  virtual absl::Status Inspect(GfnRange run, absl::Span<HostFrame> frames) = 0;

 protected:
  friend class BackingPin;
  virtual void Unpin(bool for_map) = 0;
};

// The host page that holds `gfn`.
inline GfnRange HostPageOf(const Backing& backing, Gfn gfn) {
  const PageLevel level = backing.host_page_level();
  const Gfn start = AlignDown(gfn, level);
  return {start, start + FramesPerEntry(level)};
}

constexpr Pfn PfnOf(Gfn gfn, GfnRange range, Pfn base_pfn) {
  return base_pfn + (gfn - range.start);
}

// Keeps a Backing, its mappings and its memslot alive and unchanged. Movable.
// The thread that pinned is the one that unpins.
class BackingPin {
 public:
  BackingPin() = default;
  BackingPin(Backing* backing, bool for_map)
      : backing_(backing), for_map_(for_map) {}
  BackingPin(BackingPin&& other) noexcept
      : backing_(std::exchange(other.backing_, nullptr)),
        for_map_(other.for_map_) {}
  BackingPin& operator=(BackingPin&& other) noexcept {
    Reset();
    backing_ = std::exchange(other.backing_, nullptr);
    for_map_ = other.for_map_;
    return *this;
  }
  ~BackingPin() { Reset(); }

  void Reset() {
    if (backing_ != nullptr) std::exchange(backing_, nullptr)->Unpin(for_map_);
  }
  explicit operator bool() const { return backing_ != nullptr; }
  Backing* operator->() const { return backing_; }
  Backing& operator*() const { return *backing_; }

 private:
  Backing* backing_ = nullptr;
  bool for_map_ = false;
};

enum class PinMode {
  // To install entries. Refused while the memslot changes or goes away.
  kMap,
  // To remove or inspect entries. Refused only once the memslot is gone, when
  // no table holds an entry of it any more.
  kUnmap,
};

// What looking for a frame's memslot found.
struct PinResult {
  BackingPin pin;         // empty if refused
  bool changing = false;  // refused because the memslot changes: try again
};

// The memslots of a VM, by frame.
class BackingTable {
 public:
  virtual ~BackingTable() = default;

  // Pins the memslot that holds `gfn`. Lock-free.
  virtual PinResult Pin(Gfn gfn, PinMode mode) = 0;
  // First frame >= `gfn` that a memslot holds; nothing if there is none. May
  // be out of date by the time it returns.
  virtual bool NextBacked(Gfn gfn, Gfn* next) = 0;
};

}  // namespace tdp

#endif  // ENGINE_BASE_BACKING_H_
