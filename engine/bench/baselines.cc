#include "engine/bench/baselines.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "engine/base/check.h"

namespace tdp::bench {
namespace {

constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

}  // namespace

AtomicArray::AtomicArray(uint64_t count, uint64_t value, bool huge_pages)
    : count_(count) {
  bytes_ =
      (count * sizeof(uint64_t) + kHugePageBytes - 1) & ~(kHugePageBytes - 1);
  void* const area = std::aligned_alloc(kHugePageBytes, bytes_);
  TDP_CHECK(area != nullptr, "out of memory");
  // Only advice; which pages there are is looked up later.
  (void)madvise(area, bytes_, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  entries_ = static_cast<std::atomic<uint64_t>*>(area);
  for (uint64_t i = 0; i < count; ++i) {
    new (&entries_[i]) std::atomic<uint64_t>(value);
  }
}

AtomicArray::~AtomicArray() { std::free(entries_); }

void AtomicArray::Fill(uint64_t first, uint64_t count, uint64_t to) {
  for (uint64_t i = first; i < first + count; ++i) {
    entries_[i].store(to, std::memory_order_relaxed);
  }
}

void AtomicArray::CompareExchangeAll(uint64_t first, uint64_t count,
                                     uint64_t from) {
  for (uint64_t i = first; i < first + count; ++i) {
    uint64_t expected = from;
    entries_[i].compare_exchange_strong(expected, i << kPageShift | 7);
  }
}

void AtomicArray::ExchangeAll(uint64_t first, uint64_t count, uint64_t to) {
  for (uint64_t i = first; i < first + count; ++i) entries_[i].exchange(to);
}

void AtomicArray::ExchangeThenStore(uint64_t first, uint64_t count,
                                    uint64_t frozen, uint64_t to) {
  const uint64_t end = first + count;
  for (uint64_t run = first; run < end; run += kEntriesPerTable) {
    const uint64_t run_end = std::min(run + kEntriesPerTable, end);
    for (uint64_t i = run; i < run_end; ++i) entries_[i].exchange(frozen);
    for (uint64_t i = run; i < run_end; ++i) {
      entries_[i].store(to, std::memory_order_release);
    }
  }
}

MutexRadix::MutexRadix(uint64_t count) : count_(count), root_(NewTable()) {
  for (uint64_t gfn = 0; gfn < count; gfn += kEntriesPerTable) {
    Table* table = root_;
    for (int level = kLevels; level > 1; --level) {
      uint64_t& entry =
          table->entries[IndexIn(Gfn(gfn), PageLevel{uint8_t(level)})];
      if (entry == 0) entry = reinterpret_cast<uint64_t>(NewTable());
      table = reinterpret_cast<Table*>(entry);
    }
  }
}

MutexRadix::~MutexRadix() { Free(root_, kLevels); }

MutexRadix::Table* MutexRadix::NewTable() {
  void* const table = std::aligned_alloc(kPageSize, sizeof(Table));
  TDP_CHECK(table != nullptr, "out of memory");
  std::memset(table, 0, sizeof(Table));
  return static_cast<Table*>(table);
}

void MutexRadix::Free(Table* table, int level) {
  if (level > 1) {
    for (const uint64_t entry : table->entries) {
      if (entry != 0) Free(reinterpret_cast<Table*>(entry), level - 1);
    }
  }
  std::free(table);
}

void MutexRadix::MapAll() {
  for (uint64_t gfn = 0; gfn < count_; ++gfn) Fault(gfn);
}

void MutexRadix::Zap(uint64_t first, uint64_t count) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (uint64_t gfn = first; gfn < first + count; ++gfn) *EntryOf(gfn) = 0;
}

}  // namespace tdp::bench
