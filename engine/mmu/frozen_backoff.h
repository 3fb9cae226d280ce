// FrozenBackoff: how a thread waits until another has finished with a FROZEN
// entry.
//
// An owner needs one host call, some microseconds, but it may have been
// preempted: after a short spin the waiter gives up its time slice, and then
// sleeps. The waiter owns nothing meanwhile, or owns only what lies above in a
// tree that is torn down, so owners never wait in a circle.
//
// Thread safety: belongs to one thread.

#ifndef ENGINE_MMU_FROZEN_BACKOFF_H_
#define ENGINE_MMU_FROZEN_BACKOFF_H_

#include <sched.h>
#include <time.h>

#include "engine/base/test_hooks.h"

namespace tdp {

class FrozenBackoff {
 public:
  // REQUIRES: no lock and no RCU read section is held.
  void Wait() {
    if (test_hooks::IsScheduled()) {
      test_hooks::LetOthersRun(TestStep::kWaitForOwner);
      return;
    }
    if (++rounds_ <= kYieldRounds) {
      sched_yield();
      return;
    }
    const timespec pause = {.tv_sec = 0, .tv_nsec = kSleepNanoseconds};
    nanosleep(&pause, nullptr);
  }

 private:
  static constexpr int kYieldRounds = 32;
  static constexpr long kSleepNanoseconds = 50'000;

  int rounds_ = 0;
};

}  // namespace tdp

#endif  // ENGINE_MMU_FROZEN_BACKOFF_H_
