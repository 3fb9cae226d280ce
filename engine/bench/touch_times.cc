#include "engine/bench/touch_times.h"

#include <atomic>

#include "engine/base/check.h"
#include "engine/bench/harness.h"

namespace tdp::bench {

// The names that --wrap gives to GuardedWrite(), and to what is called in its
// place.
bool RealGuardedWrite(volatile uint8_t* address,
                      uint8_t value) asm("__real__ZN3tdp12GuardedWriteEPVhh");
bool TimedGuardedWrite(volatile uint8_t* address,
                       uint8_t value) asm("__wrap__ZN3tdp12GuardedWriteEPVhh");

namespace {

std::atomic<TouchTimes*> recorder{nullptr};

}  // namespace

bool TimedGuardedWrite(volatile uint8_t* address, uint8_t value) {
  // Relaxed: set before the guest starts.
  TouchTimes* const times = recorder.load(std::memory_order_relaxed);
  if (times == nullptr) return RealGuardedWrite(address, value);
  const Timer timer;
  const bool done = RealGuardedWrite(address, value);
  times->Record(timer.ns());
  return done;
}

TouchTimes::TouchTimes(size_t count) {
  ns_.reserve(count);
  TouchTimes* const none = recorder.exchange(this, std::memory_order_relaxed);
  TDP_CHECK(none == nullptr, "one recorder at a time");
}

TouchTimes::~TouchTimes() {
  recorder.store(nullptr, std::memory_order_relaxed);
}

}  // namespace tdp::bench
