#include "engine/paging/page_table_budget.h"

#include <utility>

#include "engine/paging/page_table_pool.h"

namespace tdp {

void PageTableBudget::AddPool(PageTablePool* pool) {
  MutexLock lock(mutex_);
  members_.push_back({.pool = pool});
}

void PageTableBudget::RemovePool(PageTablePool* pool) {
  MutexLock lock(mutex_);
  StopAwaiting(pool);
  std::erase_if(members_,
                [&](const Member& member) { return member.pool == pool; });
}

void PageTableBudget::SetRoomListener(PageTablePool* pool,
                                      std::function<void()> on_room) {
  MutexLock lock(mutex_);
  for (Member& member : members_) {
    if (member.pool == pool) member.on_room = std::move(on_room);
  }
}

void PageTableBudget::StopAwaiting(PageTablePool* pool) {
  if (pool->room_wanted_.exchange(0, std::memory_order_seq_cst) != 0) {
    awaiting_pool_count_.fetch_sub(1, std::memory_order_seq_cst);
  }
}

void PageTableBudget::TellOfRoom() {
  MutexLock lock(mutex_);
  for (const Member& member : members_) {
    PageTablePool& pool = *member.pool;
    const int64_t wanted = pool.room_wanted_.load(std::memory_order_seq_cst);
    if (wanted == 0 || !pool.HasRoom(wanted)) continue;
    StopAwaiting(&pool);
    if (member.on_room) member.on_room();
  }
}

bool PageTableBudget::TryTake() {
  // Raised only below the limit, or it would refuse others for a moment.
  int64_t count = table_count_.load(std::memory_order_relaxed);
  while (count < max_count()) {
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
  for (const Member& member : members_) given += member.pool->GiveBackFree();
  return given > 0;
}

}  // namespace tdp
