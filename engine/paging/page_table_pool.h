// PageTablePool: the memory of a VM's page tables, bounded, and PageTableCache:
// tables taken in advance, so that nothing is allocated under a lock.
//
// The pool takes memory from the host in 2 MiB chunks: 8 pages of headers and
// 504 tables. It gives a free table's back when the budget of all pools is
// spent, else none before it is destroyed.
//
// Thread safety: a pool may be used by any thread. A cache belongs to one
// operation.

#ifndef ENGINE_PAGING_PAGE_TABLE_POOL_H_
#define ENGINE_PAGING_PAGE_TABLE_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "engine/base/types.h"
#include "engine/paging/page_table.h"
#include "engine/paging/page_table_budget.h"
#include "engine/sync/mutex.h"
#include "engine/sync/rcu.h"

namespace tdp {

class PageTablePool {
 public:
  // Tables may hold `limit_bytes` at most, those that wait for a grace period
  // included. `rcu` and `budget`, which all pools share, outlive the pool;
  // null: there is no such budget.
  PageTablePool(RcuDomain& rcu, int64_t limit_bytes,
                PageTableBudget* budget = nullptr);
  // REQUIRES: every table was freed or retired. Waits for a grace period.
  ~PageTablePool();
  PageTablePool(const PageTablePool&) = delete;
  PageTablePool& operator=(const PageTablePool&) = delete;

  // A table whose entries are all non-present. PAGE_TABLE_LIMIT if the limit is
  // reached even after a grace period has passed, or the budget is spent even
  // after every pool gave back what is free; HOST_MEMORY_EXHAUSTED if the
  // host gives none. May wait for a grace period: call it holding nothing.
  absl::Status Allocate(PageTable** table);
  // The same for what the limit does not cover: a root, because replacing it is
  // how a VM gets back below its limit, and what that needs in turn.
  absl::Status AllocateExempt(PageTable** table);
  // Takes back a table that was never linked.
  void Free(PageTable* table);
  // Takes back an unlinked table after a grace period. REQUIRES: no entry
  // points to it, and all of its entries are frozen or non-present for good.
  void Retire(PageTable* table);

  // Whether `count` tables can be had now, as far as the limit and the budget
  // go. If not, the listener is called once they can: for one who was refused a
  // table, has given back what he had got, and is about to wait. False without
  // a budget, and then nobody is called.
  bool AwaitRoom(int64_t count);
  // Whoever waited does so no more.
  void StopAwaitingRoom();
  // Called from any thread, with the budget's lock held: it must neither wait
  // nor use the pool. Once this returns the old one is not called any more.
  void SetRoomListener(std::function<void()> on_room);

  static PageTableHeader& HeaderOf(const PageTable* table);

  int64_t limit_bytes() const { return limit_bytes_; }
  // Tables handed out and not yet back: linked, cached, or retired.
  int64_t used_count() const {
    // Relaxed: a statistic.
    return used_count_.load(std::memory_order_relaxed);
  }
  // Tables that wait for a grace period.
  int64_t retired_count() const {
    // Acquire: see PageTablePool::Reclaim().
    return retired_count_.load(std::memory_order_acquire);
  }

 private:
  friend class PageTableBudget;

  static void Reclaim(RcuHead* head);
  enum class Limit { kEnforced, kIgnored };
  enum class Outcome { kDone, kLimitReached, kBudgetSpent, kNoHostMemory };
  Outcome TryAllocate(Limit limit, PageTable** table);
  // `host_gives`: false is a test's.
  Outcome TakeFree(Limit limit, bool host_gives, PageTable** table)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status ErrorOf(Outcome outcome) const;
  int64_t max_count() const {
    return limit_bytes_ / static_cast<int64_t>(sizeof(PageTable));
  }
  // REQUIRES: there is a budget.
  bool HasRoom(int64_t count) const;
  // A table is not used any more, or was not had after all.
  void GiveUpOne();
  // Takes a free table that the budget has room for; null if it has none.
  PageTable* PopFree(Limit limit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives the memory of free tables back to the host. Returns of how many.
  int64_t GiveBackFree() ABSL_LOCKS_EXCLUDED(mutex_);
  void Recycle(PageTable* table);

  RcuDomain& rcu_;
  const int64_t limit_bytes_;
  PageTableBudget* const budget_;
  std::atomic<int64_t> used_count_{0};
  std::atomic<int64_t> retired_count_{0};
  // Tables that somebody waits for; 0: nobody does.
  std::atomic<int64_t> room_wanted_{0};

  Mutex mutex_;
  std::vector<void*> chunks_ ABSL_GUARDED_BY(mutex_);
  std::vector<PageTable*> free_tables_ ABSL_GUARDED_BY(mutex_);
};

// Tables of one operation, taken before it takes a lock.
class PageTableCache {
 public:
  explicit PageTableCache(PageTablePool& pool) : pool_(pool) {}
  ~PageTableCache();
  PageTableCache(const PageTableCache&) = delete;
  PageTableCache& operator=(const PageTableCache&) = delete;

  // Makes sure that `count` tables are at hand, or fails as
  // PageTablePool::Allocate() and keeps what it has.
  absl::Status TopUp(int count);
  // The same, not subject to the limit.
  absl::Status TopUpExempt(int count);
  // REQUIRES: not empty.
  PageTable* Take();
  // Takes a table back that was not linked after all.
  void Return(PageTable* table);
  int size() const { return static_cast<int>(tables_.size()); }

 private:
  PageTablePool& pool_;
  std::vector<PageTable*> tables_;
};

}  // namespace tdp

#endif  // ENGINE_PAGING_PAGE_TABLE_POOL_H_
