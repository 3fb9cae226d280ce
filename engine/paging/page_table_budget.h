// PageTableBudget: the memory that the page tables of all VMs may hold
// together.
//
// Counted is what the host has given: a table from its first use on, also while
// it is free, until its pool hands the memory back. Pools keep free tables for
// their next use; when the budget is spent they are asked for them.
//
// Who found no room for a table may wait for it (PageTablePool::AwaitRoom()).
// Whatever makes room looks for such waiters, whichever pool it is in.
//
// Thread safety: all methods, from any thread. Lock order: the budget's, then a
// pool's.

#ifndef ENGINE_PAGING_PAGE_TABLE_BUDGET_H_
#define ENGINE_PAGING_PAGE_TABLE_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "engine/base/types.h"
#include "engine/paging/page_table.h"
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

  struct Member {
    PageTablePool* pool = nullptr;
    std::function<void()> on_room;  // may be empty
  };

  void AddPool(PageTablePool* pool) ABSL_LOCKS_EXCLUDED(mutex_);
  void RemovePool(PageTablePool* pool) ABSL_LOCKS_EXCLUDED(mutex_);

  void SetRoomListener(PageTablePool* pool, std::function<void()> on_room)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Its pool waits no more.
  void StopAwaiting(PageTablePool* pool);

  // Makes room for one table, or says that there is none.
  bool TryTake();
  // For what no limit covers.
  void TakeExempt() { table_count_.fetch_add(1, std::memory_order_relaxed); }
  void Give(int64_t count) {
    table_count_.fetch_sub(count, std::memory_order_seq_cst);
  }
  // Tables that are free but not handed back.
  void AddIdle(int64_t count) {
    idle_count_.fetch_add(count, std::memory_order_seq_cst);
  }
  // Tables that can be had, at the price of a Reclaim().
  int64_t room() const {
    // In this order: a table that is handed back in between, which leaves the
    // second count first, is counted twice rather than not at all.
    const int64_t idle = idle_count_.load(std::memory_order_seq_cst);
    return max_count() - table_count_.load(std::memory_order_seq_cst) + idle;
  }
  // There may be room where there was none. Sequentially consistent, as all
  // that makes room and as AwaitRoom(): either who makes room sees that
  // somebody waits, or who is about to wait sees the room.
  void NoteRoom() {
    if (awaiting_pool_count_.load(std::memory_order_seq_cst) != 0) TellOfRoom();
  }
  // Calls the listeners of those pools that wait and have room now.
  void TellOfRoom() ABSL_LOCKS_EXCLUDED(mutex_);
  // Has every pool hand back what is free. Returns whether there was any.
  // Cheap if there is none.
  bool Reclaim() ABSL_LOCKS_EXCLUDED(mutex_);

  int64_t max_count() const {
    return limit_bytes_ / static_cast<int64_t>(sizeof(PageTable));
  }

  const int64_t limit_bytes_;
  std::atomic<int64_t> table_count_{0};
  std::atomic<int64_t> idle_count_{0};
  // Those whose PageTablePool::room_wanted_ is not 0.
  std::atomic<int64_t> awaiting_pool_count_{0};
  Mutex mutex_;
  std::vector<Member> members_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tdp

#endif  // ENGINE_PAGING_PAGE_TABLE_BUDGET_H_
