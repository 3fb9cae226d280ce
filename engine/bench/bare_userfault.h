// What a daemon without an engine would do: guest memory in the same layout as
// a memslot's, userfaultfd calls on it, a thread that answers its faults.
//
// Thread safety: all methods but those of BareHandler, which belongs to one
// thread, from any thread.

#ifndef ENGINE_BENCH_BARE_USERFAULT_H_
#define ENGINE_BENCH_BARE_USERFAULT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>

#include "engine/base/types.h"
#include "engine/memory/guest_memory.h"
#include "engine/memory/host_calls.h"
#include "engine/memory/userfaultfd.h"

namespace tdp::bench {

// The calls on a window, in the kernel's own words. Ends the program if one
// fails.
class BareCalls {
 public:
  // The window's userfaultfd, if it has one, stays the caller's.
  BareCalls(Hva window, int userfaultfd)
      : window_(window), userfaultfd_(userfaultfd) {}

  Hva HvaOf(uint64_t frame) const { return window_ + (frame << kPageShift); }
  int userfaultfd() const { return userfaultfd_; }

  // In calls of 2 MiB: UFFDIO_CONTINUE, MADV_DONTNEED.
  void Map(uint64_t first, uint64_t count) const;
  void Zap(uint64_t first, uint64_t count) const;
  // The frame that `address` lies in, by one UFFDIO_CONTINUE, which also wakes.
  void MapFrameAt(uint64_t address) const;

 private:
  void Continue(uint64_t address, uint64_t bytes) const;

  const Hva window_;
  const int userfaultfd_;
};

// A memfd with all its pages, and its window, where nothing is mapped.
class BareWindow {
 public:
  // kHost: no userfaultfd; the kernel answers faults by itself.
  enum class Faults { kUserfault, kHost };
  explicit BareWindow(uint64_t frames, Faults faults = Faults::kUserfault);
  BareWindow(const BareWindow&) = delete;
  BareWindow& operator=(const BareWindow&) = delete;

  uint64_t frames() const { return memory_->frame_count(); }
  uint64_t size_bytes() const { return memory_->size_bytes(); }
  Hva hva() const { return memory_->window(); }
  const BareCalls& calls() const { return *calls_; }
  void Zap() const { calls_->Zap(0, frames()); }

 private:
  HostCalls host_calls_;
  std::unique_ptr<GuestMemory> memory_;
  // Closed before the window goes.
  std::optional<Userfaultfd> userfaultfd_;
  std::optional<BareCalls> calls_;
};

// Maps each frame that somebody touches, by one call.
class BareHandler {
 public:
  // How the thread waits for the next fault: in read(2), or as in the example
  // of userfaultfd(2), in poll(2) before it.
  enum class Wait { kRead, kPoll };
  // REQUIRES: the window has a userfaultfd. It outlives the handler.
  BareHandler(const BareWindow& window, Wait wait);
  // Frame 0 is zapped and touched. REQUIRES: nobody else touches the window.
  ~BareHandler();
  BareHandler(const BareHandler&) = delete;
  BareHandler& operator=(const BareHandler&) = delete;

 private:
  void Run();

  const BareCalls& calls_;
  const Wait wait_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_BARE_USERFAULT_H_
