#include "engine/sync/pin_count.h"

#include "engine/sync/held_locks.h"

namespace tdp {

void PinCount::CloseAndDrain() {
  sync_internal::CheckMayWaitForReaders();
  closed_.store(1, std::memory_order_seq_cst);
  users_.Drain();
}

void PinCount::Reopen() { closed_.store(0, std::memory_order_release); }

}  // namespace tdp
