// FakeVcpu: touches frames as a vCPU does. It looks at what the host maps; if
// that does not grant the access it sleeps in a fault, which is served on its
// own thread, and looks again once the frame was woken, not before.
//
// Thread safety: belongs to one thread.

#ifndef ENGINE_TESTING_FAKE_VCPU_H_
#define ENGINE_TESTING_FAKE_VCPU_H_

#include <sched.h>

#include <cstdint>

#include "engine/mmu/tdp_mmu.h"
#include "engine/testing/event.h"
#include "engine/testing/fake_backing.h"

namespace tdp::testing {

enum class TouchResult {
  kDone,
  kUnbacked,
  kForbidden,
  kFailed,
  kLostWakeup,  // nobody woke the vCPU
};

class FakeVcpu {
 public:
  FakeVcpu(TdpMmu& mmu, FakeBackingTable& backings)
      : mmu_(mmu), backings_(backings) {}

  TouchResult Touch(Gfn gfn, bool write) {
    FakeBacking* const slot = backings_.Find(gfn);
    if (slot == nullptr) return TouchResult::kUnbacked;
    for (;;) {
      const uint64_t wakes = slot->WakeCount(gfn);
      if (slot->Grants(gfn, write)) return TouchResult::kDone;
      switch (mmu_.HandleFault({gfn, write}).result) {
        case FaultResult::kFixed:
          ++fixed_count_;
          break;
        case FaultResult::kSpurious:
        case FaultResult::kWriteProtected:
        case FaultResult::kRetry:
          break;
        case FaultResult::kUnbacked:
          return TouchResult::kUnbacked;
        case FaultResult::kForbidden:
          return TouchResult::kForbidden;
        case FaultResult::kFailed:
          return TouchResult::kFailed;
        case FaultResult::kChanging:
          // The pager wakes the vCPU by itself.
          sched_yield();
          continue;
      }
      if (!slot->WaitForWake(gfn, wakes, kTestPatience)) {
        return TouchResult::kLostWakeup;
      }
    }
  }

  // Faults of this vCPU that installed an entry.
  int64_t fixed_count() const { return fixed_count_; }

 private:
  TdpMmu& mmu_;
  FakeBackingTable& backings_;
  int64_t fixed_count_ = 0;
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_FAKE_VCPU_H_
