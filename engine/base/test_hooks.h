// TestHooks: where a test takes part in the engine's atomic steps. It schedules
// the threads that take them (engine/testing/interleaving.h), makes steps fail
// (engine/testing/fault_injector.h) and sees rules broken.
//
// Builds with TDPD_TEST_HOOKS (Bazel: --config=hooks) ask the installed object,
// and builds with TDPD_LOCK_HOOKS do so at the steps of locks alone, to measure
// what the others cost. Elsewhere the functions below cost nothing.
//
// Thread safety: the functions, from any thread. Objects are installed and
// removed while no other thread uses the engine.

#ifndef ENGINE_BASE_TEST_HOOKS_H_
#define ENGINE_BASE_TEST_HOOKS_H_

#include <atomic>
#include <cstdint>

namespace tdp {

// What a thread is about to do, or to wait for.
enum class TestStep : uint8_t {
  kReadEntry,
  kTryWriteEntry,
  kWriteOwnedEntry,
  kReaderLock,
  kReaderUnlock,
  kWriterLock,
  kWriterUnlock,
  kReadSectionBegin,
  kReadSectionEnd,
  kRetire,
  kReadSequence,
  kAdvanceSequence,
  kAllocateTable,
  kHostCall,
  kLook,  // a vCPU at what the host maps
  // Waits.
  kWaitForMutex,
  kWaitForChange,  // a condition variable
  kWaitForReaders,
  kWaitForOwner,  // of a FROZEN entry
  kSleep,         // a vCPU in a fault
};

enum class TestAllocation { kAllowed, kLimitReached, kNoHostMemory };

class TestHooks {
 public:
  virtual ~TestHooks() = default;

  virtual void BeforeStep(TestStep, const void* /*where*/) {}
  // The compare-exchange on `entry` is lost, whatever the entry is.
  virtual bool LosesRace(const void* /*entry*/) { return false; }
  // A thread has reached an entry of a table that was reclaimed.
  virtual void OnReclaimedEntry(const void* /*entry*/) {}
  virtual bool ForcesYield() { return false; }
  virtual bool ForcesRetry() { return false; }
  virtual TestAllocation AskAllocation() { return TestAllocation::kAllowed; }

  // This thread waits by letting others run.
  virtual bool IsScheduled() { return false; }
  // Returns after another thread has taken a step. REQUIRES: IsScheduled().
  virtual void LetOthersRun(TestStep /*wait*/) {}

  // True: `reclaim(node)` will be called once the read sections that are open
  // now have ended, and nobody else needs to see to it.
  virtual bool TakesRetired(void* /*node*/, void (* /*reclaim*/)(void*)) {
    return false;
  }
  virtual void AfterReadSection() {}
  // True: everything retired so far is reclaimed.
  virtual bool WaitsForReaders() { return false; }
};

namespace test_hooks {

// The entries of a table in the free list. Present to nobody, and unlike what
// any entry is.
inline constexpr uint64_t kReclaimedEntry = 0x7ead'7ead'7ead'7000;

#ifdef TDPD_TEST_HOOKS
inline constexpr bool kEnabled = true;
#else
inline constexpr bool kEnabled = false;
#endif
#ifdef TDPD_LOCK_HOOKS
inline constexpr bool kSeesLocks = true;
#else
inline constexpr bool kSeesLocks = kEnabled;
#endif

inline constinit std::atomic<TestHooks*> g_installed{nullptr};

inline void Install(TestHooks* hooks) { g_installed.store(hooks); }
inline TestHooks* Get() {
  return kEnabled ? g_installed.load(std::memory_order_acquire) : nullptr;
}

constexpr bool IsLockStep(TestStep step) {
  return step == TestStep::kReaderLock || step == TestStep::kReaderUnlock ||
         step == TestStep::kWriterLock || step == TestStep::kWriterUnlock;
}
inline void BeforeStep(TestStep step, const void* where) {
  if (!kEnabled && !(kSeesLocks && IsLockStep(step))) return;
  if (TestHooks* hooks = g_installed.load(std::memory_order_acquire)) {
    hooks->BeforeStep(step, where);
  }
}
inline bool LosesRace(const void* entry) {
  TestHooks* hooks = Get();
  return hooks != nullptr && hooks->LosesRace(entry);
}
inline void CheckEntry(const void* entry, uint64_t raw) {
  if (!kEnabled || raw != kReclaimedEntry) return;
  if (TestHooks* hooks = Get()) hooks->OnReclaimedEntry(entry);
}
inline bool ForcesYield() {
  TestHooks* hooks = Get();
  return hooks != nullptr && hooks->ForcesYield();
}
inline bool ForcesRetry() {
  TestHooks* hooks = Get();
  return hooks != nullptr && hooks->ForcesRetry();
}
inline TestAllocation AskAllocation() {
  TestHooks* hooks = Get();
  return hooks == nullptr ? TestAllocation::kAllowed : hooks->AskAllocation();
}
inline bool IsScheduled() {
  TestHooks* hooks = Get();
  return hooks != nullptr && hooks->IsScheduled();
}
inline void LetOthersRun(TestStep wait) {
  if (TestHooks* hooks = Get()) hooks->LetOthersRun(wait);
}
inline bool TakesRetired(void* node, void (*reclaim)(void*)) {
  TestHooks* hooks = Get();
  return hooks != nullptr && hooks->TakesRetired(node, reclaim);
}
inline void AfterReadSection() {
  if (TestHooks* hooks = Get()) hooks->AfterReadSection();
}
inline bool WaitsForReaders() {
  TestHooks* hooks = Get();
  return hooks != nullptr && hooks->WaitsForReaders();
}

}  // namespace test_hooks
}  // namespace tdp

#endif  // ENGINE_BASE_TEST_HOOKS_H_
