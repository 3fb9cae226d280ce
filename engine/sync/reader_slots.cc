#include "engine/sync/reader_slots.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

#include "absl/base/internal/raw_logging.h"
#include "engine/base/test_hooks.h"
#include "engine/sync/mutex.h"

namespace tdp::sync_internal {

constinit WaitBucket g_wait_buckets[kWaitBucketCount] = {};
constinit thread_local ReaderSlot* t_reader_slot = nullptr;
constinit std::atomic<bool> g_readers_unfenced{false};

namespace {

constinit ReaderSlot g_slots[kReaderSlotCount] = {};
// Slots that were ever owned: no thread has an entry beyond them.
constinit std::atomic<int> g_used_slots{0};

// The slot of threads that got none: every entry is taken.
constexpr char kTaken = 0;
constinit ReaderSlot g_full_slot = {
    {&kTaken, &kTaken, &kTaken, &kTaken, &kTaken, &kTaken, &kTaken, &kTaken}};

constinit Mutex g_slots_mu;
constinit int g_free_slots[kReaderSlotCount] ABSL_GUARDED_BY(g_slots_mu) = {};
constinit int g_free_slot_count ABSL_GUARDED_BY(g_slots_mu) = 0;

pthread_key_t g_exit_key;
pthread_once_t g_init_once = PTHREAD_ONCE_INIT;

long Membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }

// Runs after this thread's C++ thread_local destructors, and again if a later
// key's destructor made the thread acquire a slot again.
void ReleaseReaderSlot(void* value) {
  t_reader_slot = nullptr;
  if (value == &g_full_slot) return;
  ReaderSlot* slot = static_cast<ReaderSlot*>(value);
  for (const SlotEntry& entry : slot->entries) {
    // Relaxed: this thread's own entry.
    if (entry.load(std::memory_order_relaxed) != nullptr) {
      ABSL_RAW_LOG(FATAL, "a thread ended that holds a lock or a pin");
    }
  }
  MutexLock lock(g_slots_mu);
  g_free_slots[g_free_slot_count++] = static_cast<int>(slot - g_slots);
}

void Init() {
  const int error = pthread_key_create(&g_exit_key, ReleaseReaderSlot);
  if (error != 0) {
    ABSL_RAW_LOG(FATAL, "no thread key for reader slots: error %d", error);
  }
  // Relaxed: see ReaderPresence::Publish().
  g_readers_unfenced.store(
      Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0,
      std::memory_order_relaxed);
}

// Makes every thread of the process execute a full barrier. Where readers
// fence, they do so themselves. No reader is without a fence before Init().
void BarrierInAllThreads() {
  // Relaxed: a reader that saw true has a slot, after Init(); whoever closes
  // has called Init() too.
  if (!g_readers_unfenced.load(std::memory_order_relaxed)) return;
  if (Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0) {
    // Readers rely on it by now, and a lock that does not exclude corrupts.
    ABSL_RAW_LOG(FATAL,
                 "membarrier worked at start and is refused now (errno %d): "
                 "allow the system call for the whole life of the process",
                 errno);
  }
}

void FutexWait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits while `inside()`. Readers hold for less than it takes to fall asleep,
// unless they were preempted, so it looks a few times first.
template <typename Predicate>
void WaitWhile(WaitBucket& bucket, Predicate inside) {
  while (test_hooks::IsScheduled()) {
    if (!inside()) return;
    test_hooks::LetOthersRun(TestStep::kWaitForReaders);
  }
  constexpr int kLooks = 64;
  for (int i = 0; i < kLooks; ++i) {
    if (!inside()) return;
    Pause();
  }
  bucket.waiters.fetch_add(1, std::memory_order_seq_cst);
  BarrierInAllThreads();
  for (;;) {
    // Read before the look, so that a wake-up after the look is not lost.
    const uint32_t wakes = bucket.wakes.load(std::memory_order_seq_cst);
    if (!inside()) break;
    FutexWait(bucket.wakes, wakes);
  }
  bucket.waiters.fetch_sub(1, std::memory_order_seq_cst);
}

}  // namespace

ReaderSlot* AcquireReaderSlot() {
  pthread_once(&g_init_once, Init);
  ReaderSlot* slot = &g_full_slot;
  {
    MutexLock lock(g_slots_mu);
    // Relaxed: written under g_slots_mu only.
    const int used = g_used_slots.load(std::memory_order_relaxed);
    if (g_free_slot_count > 0) {
      slot = &g_slots[g_free_slots[--g_free_slot_count]];
    } else if (used < kReaderSlotCount) {
      slot = &g_slots[used];
      // Before the first entry is written: a closer that must see the entry
      // sees this too, by the argument that makes it see the entry.
      g_used_slots.store(used + 1, std::memory_order_seq_cst);
    }
  }
  const int error = pthread_setspecific(g_exit_key, slot);
  if (error != 0) {
    ABSL_RAW_LOG(FATAL, "no memory for a reader slot: error %d", error);
  }
  t_reader_slot = slot;
  return slot;
}

void WakeClosers(WaitBucket& bucket) {
  bucket.wakes.fetch_add(1, std::memory_order_seq_cst);
  syscall(SYS_futex, &bucket.wakes, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr,
          nullptr, 0);
}

bool ReaderPresence::TryEnterCounted(const std::atomic<uint32_t>& gate) {
  counted_.fetch_add(1, std::memory_order_seq_cst);
  if (gate.load(std::memory_order_seq_cst) == 0) return true;
  LeaveCounted();
  return false;
}

void ReaderPresence::LeaveCounted() {
  WaitBucket& bucket = BucketOf(this);
  counted_.fetch_sub(1, std::memory_order_seq_cst);
  WakeIfAwaited(bucket);
}

void ReaderPresence::AdmitCounted(int64_t count) {
  counted_.fetch_add(count, std::memory_order_seq_cst);
}

// An entry that was once seen free of this presence can show it again only for
// a moment, by a thread that finds the gate shut. So one look at each is
// enough, and threads that keep trying cannot keep the closer here.
void ReaderPresence::Drain() {
  pthread_once(&g_init_once, Init);
  BarrierInAllThreads();
  WaitBucket& bucket = BucketOf(this);
  const int used = g_used_slots.load(std::memory_order_seq_cst);
  for (int i = 0; i < used; ++i) {
    for (const SlotEntry& entry : g_slots[i].entries) {
      WaitWhile(bucket,
                [&] { return entry.load(std::memory_order_seq_cst) == this; });
    }
  }
  WaitWhile(bucket,
            [&] { return counted_.load(std::memory_order_seq_cst) != 0; });
}

void RefuseMembarrierForTest(bool refused) {
  pthread_once(&g_init_once, Init);
  g_readers_unfenced.store(
      !refused && Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0,
      std::memory_order_seq_cst);
}

int OwnedReaderSlotsForTest() {
  MutexLock lock(g_slots_mu);
  return g_used_slots.load(std::memory_order_relaxed) - g_free_slot_count;
}

}  // namespace tdp::sync_internal
