// FaultInjector: makes the engine's steps fail on purpose, by number. While one
// lives it is the installed TestHooks (engine/base/test_hooks.h). Grace periods
// pass at once, so that an execution takes microseconds.
//
// Thread safety: only the thread that made it uses the engine.

#ifndef ENGINE_TESTING_FAULT_INJECTOR_H_
#define ENGINE_TESTING_FAULT_INJECTOR_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "engine/base/test_hooks.h"
#include "engine/testing/rcu_model.h"

namespace tdp::testing {

// Where a step can be made to fail.
enum class FaultSite {
  kTableLimit,       // an allocation of a table finds the limit reached
  kHostMemory,       // or the host without memory
  kCompareExchange,  // a compare-exchange is lost
  kYield,            // the lock is contended
  kRetry,            // the sequence has moved
};

class FaultInjector final : public TestHooks {
 public:
  FaultInjector() { test_hooks::Install(this); }
  ~FaultInjector() override { test_hooks::Install(nullptr); }
  FaultInjector(const FaultInjector&) = delete;
  FaultInjector& operator=(const FaultInjector&) = delete;

  // From now on the `nth` to `last` opportunities at `site` fail, counted from
  // 1; nothing else does.
  void Arm(FaultSite site, int64_t nth, int64_t last) {
    site_ = site;
    nth_ = nth;
    last_ = last;
    met_ = 0;
    armed_ = true;
  }
  void Arm(FaultSite site, int64_t nth) { Arm(site, nth, nth); }
  void Disarm() { armed_ = false; }
  // A step was made to fail since Arm().
  bool fired() const { return met_ >= nth_; }

  // TestHooks.
  void BeforeStep(TestStep step, const void*) override {
    if (step == TestStep::kReadSectionBegin) rcu_.BeginSection(0);
    if ((step == TestStep::kReadEntry || step == TestStep::kTryWriteEntry) &&
        !rcu_.InSection(0)) {
      Die("an entry is accessed outside of an RCU read section");
    }
  }
  bool LosesRace(const void*) override {
    return Fails(FaultSite::kCompareExchange);
  }
  void OnReclaimedEntry(const void*) override {
    Die("an entry of a reclaimed table was reached");
  }
  bool ForcesYield() override { return Fails(FaultSite::kYield); }
  bool ForcesRetry() override { return Fails(FaultSite::kRetry); }
  TestAllocation AskAllocation() override {
    if (Fails(FaultSite::kTableLimit)) return TestAllocation::kLimitReached;
    if (Fails(FaultSite::kHostMemory)) return TestAllocation::kNoHostMemory;
    return TestAllocation::kAllowed;
  }
  bool TakesRetired(void* node, void (*reclaim)(void*)) override {
    rcu_.Retire(node, reclaim);
    return true;
  }
  void AfterReadSection() override { rcu_.EndSection(0); }
  bool WaitsForReaders() override {
    if (rcu_.InSection(0)) Die("a reader waits for readers");
    return true;
  }

 private:
  [[noreturn]] static void Die(const char* what) {
    std::fprintf(stderr, "FaultInjector: %s\n", what);
    std::abort();
  }
  bool Fails(FaultSite site) {
    if (!armed_ || site != site_) return false;
    ++met_;
    return met_ >= nth_ && met_ <= last_;
  }

  bool armed_ = false;
  FaultSite site_ = FaultSite::kYield;
  int64_t nth_ = 0;
  int64_t last_ = 0;
  int64_t met_ = 0;
  RcuModel rcu_;
};

}  // namespace tdp::testing

#endif  // ENGINE_TESTING_FAULT_INJECTOR_H_
