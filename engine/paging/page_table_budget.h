// PageTableBudget: the memory that the page tables of all VMs may hold
// together.
//
// Counted is what the host has given: a table from its first use on, also while
// it is free, until its pool hands the memory back. Pools keep free tables for
// their next use; when the budget is spent they are asked for them.
//
// Thread safety: all methods, from any thread. Lock order: the budget's, then a
// pool's.

#ifndef ENGINE_PAGING_PAGE_TABLE_BUDGET_H_
#define ENGINE_PAGING_PAGE_TABLE_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/base/types.h"
#include "engine/sync/mutex.h"

namespace tdp {

class PageTablePool;

class PageTableBudget {
 public:
  explicit PageTableBudget(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  PageTableBudget(const PageTableBudget&) = delete;
  PageTableBudget& operator=(const PageTableBudget&) = delete;

  int64_t limit_bytes() const { return limit_bytes_; }
  // Tables that the host has given memory for.
  int64_t table_count() const {
    // Relaxed, here and below: numbers, which order nothing.
    return table_count_.load(std::memory_order_relaxed);
  }

 private:
  friend class PageTablePool;

  void AddPool(PageTablePool* pool) ABSL_LOCKS_EXCLUDED(mutex_);
  void RemovePool(PageTablePool* pool) ABSL_LOCKS_EXCLUDED(mutex_);

  // Makes room for one table, or says that there is none.
  bool TryTake();
  // For what no limit covers.
  void TakeExempt() { table_count_.fetch_add(1, std::memory_order_relaxed); }
  void Give(int64_t count) {
    table_count_.fetch_sub(count, std::memory_order_relaxed);
  }
  // Tables that are free but not handed back.
  void AddIdle(int64_t count) {
    idle_count_.fetch_add(count, std::memory_order_relaxed);
  }
  // Has every pool hand back what is free. Returns whether there was any.
  // Cheap if there is none.
  bool Reclaim() ABSL_LOCKS_EXCLUDED(mutex_);

  const int64_t limit_bytes_;
  std::atomic<int64_t> table_count_{0};
  std::atomic<int64_t> idle_count_{0};
  Mutex mutex_;
  std::vector<PageTablePool*> pools_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp

#endif  // ENGINE_PAGING_PAGE_TABLE_BUDGET_H_
