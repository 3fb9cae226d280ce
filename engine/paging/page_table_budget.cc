#include "engine/paging/page_table_budget.h"

#include <algorithm>

#include "engine/paging/page_table_pool.h"

namespace tdp {

void PageTableBudget::AddPool(PageTablePool* pool) {
  MutexLock lock(mutex_);
  pools_.push_back(pool);
}

void PageTableBudget::RemovePool(PageTablePool* pool) {
  MutexLock lock(mutex_);
  pools_.erase(std::find(pools_.begin(), pools_.end(), pool));
}

bool PageTableBudget::TryTake() {
  const int64_t max_count =
      limit_bytes_ / static_cast<int64_t>(sizeof(PageTable));
  // Raised only below the limit, or it would refuse others for a moment.
  int64_t count = table_count_.load(std::memory_order_relaxed);
  while (count < max_count) {
    if (table_count_.compare_exchange_weak(count, count + 1,
                                           std::memory_order_relaxed)) {
      return true;
    }
  }
  return false;
}

bool PageTableBudget::Reclaim() {
  if (idle_count_.load(std::memory_order_relaxed) == 0) return false;
  int64_t given = 0;
  MutexLock lock(mutex_);
  for (PageTablePool* pool : pools_) given += pool->GiveBackFree();
  return given > 0;
}

}  // namespace tdp
