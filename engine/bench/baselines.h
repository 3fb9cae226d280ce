// What the engine is measured against.
//
// Thread safety: as each says.

#ifndef ENGINE_BENCH_BASELINES_H_
#define ENGINE_BENCH_BASELINES_H_

#include <atomic>
#include <cstdint>
#include <mutex>

#include "absl/container/btree_map.h"
#include "absl/types/span.h"
#include "engine/base/types.h"

namespace tdp::bench {

// The physical limit: one atomic for each frame, first-touched. Threads may use
// it as they use atomics.
class AtomicArray {
 public:
  // `huge_pages` asks for transparent ones.
  AtomicArray(uint64_t count, uint64_t value, bool huge_pages);
  ~AtomicArray();
  AtomicArray(const AtomicArray&) = delete;
  AtomicArray& operator=(const AtomicArray&) = delete;

  std::atomic<uint64_t>& operator[](uint64_t i) { return entries_[i]; }
  uint64_t count() const { return count_; }
  // What has the value `to` afterwards, without a fence.
  void Fill(uint64_t first, uint64_t count, uint64_t to);

  // The floors. Each touches entries [first, first + count) once.
  //
  // One compare-exchange each, from `from` to a value of its own.
  void CompareExchangeAll(uint64_t first, uint64_t count, uint64_t from);
  // One exchange each.
  void ExchangeAll(uint64_t first, uint64_t count, uint64_t to);
  // The bare two steps of a zap, a table's worth at a time: exchange to
  // `frozen`, and later a store of `to`.
  void ExchangeThenStore(uint64_t first, uint64_t count, uint64_t frozen,
                         uint64_t to);

 private:
  const uint64_t count_;
  uint64_t bytes_;
  std::atomic<uint64_t>* entries_;
};

// The MMU before it ran in parallel: four levels, plain entries, one mutex
// around each operation; a zap holds it throughout. From any thread.
class MutexRadix {
 public:
  // Tables down to the last level for frames [0, count).
  explicit MutexRadix(uint64_t count);
  ~MutexRadix();
  MutexRadix(const MutexRadix&) = delete;
  MutexRadix& operator=(const MutexRadix&) = delete;

  uint64_t Walk(uint64_t gfn) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return *EntryOf(gfn);
  }
  // Maps the frame if it is not mapped.
  void Fault(uint64_t gfn) {
    const std::lock_guard<std::mutex> lock(mutex_);
    uint64_t* const entry = EntryOf(gfn);
    if (*entry == 0) *entry = gfn << kPageShift | 7;
  }
  void MapAll();
  void Zap(uint64_t first, uint64_t count);

 private:
  struct Table {
    uint64_t entries[kEntriesPerTable];
  };
  static Table* NewTable();
  static void Free(Table* table, int level);
  uint64_t* EntryOf(uint64_t gfn) {
    Table* table = root_;
    for (int level = kLevels; level > 1; --level) {
      table = reinterpret_cast<Table*>(
          table->entries[IndexIn(Gfn(gfn), PageLevel{uint8_t(level)})] &
          ~(kPageSize - 1));
    }
    return &table->entries[IndexIn(Gfn(gfn), PageLevel::k4K)];
  }

  static constexpr int kLevels = 4;
  const uint64_t count_;
  std::mutex mutex_;
  Table* root_;
};

// What an application programmer writes. From any thread.
class MutexBtree {
 public:
  explicit MutexBtree(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) map_.emplace(i, i << kPageShift | 7);
  }
  uint64_t Find(uint64_t gfn) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto it = map_.find(gfn);
    return it == map_.end() ? 0 : it->second;
  }

 private:
  std::mutex mutex_;
  absl::btree_map<uint64_t, uint64_t> map_;
};

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_BASELINES_H_
