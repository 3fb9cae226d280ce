// ReaderPresence: who is inside something that is rarely closed (a lock's read
// side, a pinned object), without a shared cache line written on the way in or
// out. Internal to engine/sync; the base of MmuLock and PinCount.
//
// Each thread owns a slot, which is a cache line of its own, while it lives. To
// enter, a thread writes the presence's address into its slot and then looks at
// the gate. To close, a thread shuts the gate, makes every thread of the
// process execute a barrier (membarrier), and waits until no slot holds the
// address. Threads beyond the number of slots, and a thread that is inside too
// many things at once, are counted in the presence itself.
//
// Where membarrier is refused, threads enter and leave with a full barrier.
//
// Why a closer and a reader cannot miss each other. The reader writes its entry
// and then reads the gate; the closer writes the gate and then reads the
// entries. Without a fence the processor may let either read pass the write
// before it. The closer's membarrier stands for a full barrier in the reader at
// some point between two of its instructions: if before the reader's write, the
// reader's later read of the gate sees it shut; if after, the write is visible
// to the closer's scan. Between those two instructions of the reader only the
// compiler must be kept from reordering, which a signal fence does. With a full
// barrier instead, both sides use sequentially consistent operations, and in
// their single order one of the two reads comes after the other side's write.
// Leaving and sleeping (entry cleared, then waiters read; waiters raised, then
// entries read) is the same pattern with the same proof.
//
// Thread safety: all methods, from any thread. Who enters, leaves.
//
// Invariants: a thread that has left does not touch the presence any more, so
// that whoever drained it may destroy it. Wake-ups go through process-wide
// buckets for that reason.

#ifndef ENGINE_SYNC_READER_SLOTS_H_
#define ENGINE_SYNC_READER_SLOTS_H_

#include <atomic>
#include <cstdint>

namespace tdp::sync_internal {

// Twice the line size: neighbours are fetched in pairs.
inline constexpr int kLineBytes = 128;
inline constexpr int kReaderSlotCount = 256;
inline constexpr int kEntriesPerSlot = 8;

using SlotEntry = std::atomic<const void*>;

struct alignas(kLineBytes) ReaderSlot {
  SlotEntry entries[kEntriesPerSlot];
};

// Where closers sleep, by address.
struct alignas(kLineBytes) WaitBucket {
  std::atomic<uint32_t> waiters{0};
  std::atomic<uint32_t> wakes{0};  // the futex
};
inline constexpr int kWaitBucketCount = 16;  // a power of two
extern constinit WaitBucket g_wait_buckets[kWaitBucketCount];

// This thread's slot; null before the first use. A thread that got none has a
// slot without free entries here.
extern constinit thread_local ReaderSlot* t_reader_slot;
// Membarrier works, so readers go without fences. False until it is known.
extern constinit std::atomic<bool> g_readers_unfenced;

// Gives this thread a slot until it ends, and finds out about membarrier.
ReaderSlot* AcquireReaderSlot();
void WakeClosers(WaitBucket& bucket);

// As if membarrier were refused (true), or as the kernel has it (false).
// REQUIRES: nobody is inside, enters or closes anything.
void RefuseMembarrierForTest(bool refused);
// Slots that are owned by a thread.
int OwnedReaderSlotsForTest();

class ReaderPresence {
 public:
  ReaderPresence() = default;
  ReaderPresence(const ReaderPresence&) = delete;
  ReaderPresence& operator=(const ReaderPresence&) = delete;

  // Enters unless `gate` is non-zero. True if inside.
  [[nodiscard]] bool TryEnter(const std::atomic<uint32_t>& gate) {
    // Relaxed: only spares closers the sight of threads that will be refused.
    if (gate.load(std::memory_order_relaxed) != 0) return false;
    ReaderSlot* slot = t_reader_slot;
    if (slot == nullptr) [[unlikely]]
      slot = AcquireReaderSlot();
    for (SlotEntry& entry : slot->entries) {
      // Relaxed: only this thread writes its entries.
      if (entry.load(std::memory_order_relaxed) != nullptr) continue;
      Publish(entry, this);
      if (gate.load(std::memory_order_seq_cst) == 0) [[likely]]
        return true;
      Publish(entry, nullptr);
      WakeIfAwaited(BucketOf(this));
      return false;
    }
    return TryEnterCounted(gate);
  }

  void Leave() {
    if (ReaderSlot* slot = t_reader_slot) [[likely]] {
      for (SlotEntry& entry : slot->entries) {
        // Relaxed: only this thread writes its entries.
        if (entry.load(std::memory_order_relaxed) != this) continue;
        WaitBucket& bucket = BucketOf(this);
        Publish(entry, nullptr);
        WakeIfAwaited(bucket);
        return;
      }
    }
    LeaveCounted();
  }

  // Puts `count` threads inside, whatever the gate says. They Leave() as usual.
  // REQUIRES: nobody drains.
  void AdmitCounted(int64_t count);

  // Waits until everybody who entered before the gate was shut has left.
  // REQUIRES: the gate of all TryEnter() is shut, by a sequentially consistent
  // store, and stays so.
  void Drain();

 private:
  static WaitBucket& BucketOf(const void* presence) {
    const auto address = reinterpret_cast<uintptr_t>(presence);
    return g_wait_buckets[(address / kLineBytes) % kWaitBucketCount];
  }
  // Writes an entry before what follows. Release, always: a closer that reads
  // any later value of the entry must see what was done inside.
  static void Publish(SlotEntry& entry, const void* value) {
    // Relaxed: it changes once, before this thread has a slot, and a thread
    // that still reads false only fences in vain.
    if (g_readers_unfenced.load(std::memory_order_relaxed)) [[likely]] {
      entry.store(value, std::memory_order_release);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    } else {
      entry.exchange(value, std::memory_order_seq_cst);
    }
  }
  static void WakeIfAwaited(WaitBucket& bucket) {
    if (bucket.waiters.load(std::memory_order_seq_cst) != 0) [[unlikely]] {
      WakeClosers(bucket);
    }
  }
  bool TryEnterCounted(const std::atomic<uint32_t>& gate);
  void LeaveCounted();

  // Threads inside that have no entry. A line of its own: it is written.
  alignas(kLineBytes) std::atomic<int64_t> counted_{0};
};

}  // namespace tdp::sync_internal

#endif  // ENGINE_SYNC_READER_SLOTS_H_
