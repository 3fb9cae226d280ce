// PinCount: keeps an object alive and unchanged while somebody uses it, and
// lets its owner refuse new users and wait for the present ones. Pinning and
// unpinning write no shared cache line; closing is dear (membarrier).
//
// Thread safety: all methods, from any thread. The thread that pinned unpins,
// and not after its thread_local destructors. A pin may be taken again by the
// same thread while it holds one. CloseAndDrain() may run in several threads at
// a time; Reopen() excludes it.
//
// Invariants: after CloseAndDrain() returned and until Reopen(), nobody holds
// a pin, and no thread that held one touches the PinCount any more.

#ifndef ENGINE_SYNC_PIN_COUNT_H_
#define ENGINE_SYNC_PIN_COUNT_H_

#include <atomic>
#include <cstdint>

#include "engine/sync/reader_slots.h"

namespace tdp {

class PinCount {
 public:
  PinCount() = default;
  PinCount(const PinCount&) = delete;
  PinCount& operator=(const PinCount&) = delete;

  // False if closed. Never waits.
  // REQUIRES: the PinCount is alive, by RCU or otherwise.
  [[nodiscard]] bool TryPin() { return users_.TryEnter(closed_); }
  // REQUIRES: this thread holds a pin.
  void Unpin() { users_.Leave(); }

  // Refuses new pins and waits until all pins are gone.
  // REQUIRES: this thread holds no pin, and nothing that a pin's holder may
  // wait for: no lock, no RCU read section, no frozen entry.
  void CloseAndDrain();
  // Allows pins again.
  // REQUIRES: no CloseAndDrain() is running.
  void Reopen();
  bool closed() const { return closed_.load(std::memory_order_acquire) != 0; }

 private:
  std::atomic<uint32_t> closed_{0};
  sync_internal::ReaderPresence users_;
};

}  // namespace tdp

#endif  // ENGINE_SYNC_PIN_COUNT_H_
