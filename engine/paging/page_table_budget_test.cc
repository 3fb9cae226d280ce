#include "engine/paging/page_table_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/errors.h"
#include "engine/paging/page_table_pool.h"
#include "engine/sync/mutex.h"

namespace tdp {
namespace {

constexpr int64_t kTable = static_cast<int64_t>(sizeof(PageTable));
constexpr int64_t kPlenty = int64_t{1} << 30;

class PageTableBudgetTest : public ::testing::Test {
 protected:
  static std::vector<PageTable*> Take(PageTablePool& pool, int count) {
    std::vector<PageTable*> tables;
    for (int i = 0; i < count; ++i) {
      PageTable* table = nullptr;
      const absl::Status status = pool.Allocate(&table);
      EXPECT_TRUE(status.ok()) << status;
      tables.push_back(table);
    }
    return tables;
  }
  static void Free(PageTablePool& pool, std::vector<PageTable*> tables) {
    for (PageTable* table : tables) pool.Free(table);
  }
  static std::string LimitOf(const absl::Status& status) {
    const auto detail = DetailOf(status);
    if (!detail || detail->reason != ErrorReason::kPageTableLimit) return "";
    return detail->metadata.front().second;
  }
  static absl::Status TryOne(PageTablePool& pool) {
    PageTable* table = nullptr;
    absl::Status status = pool.Allocate(&table);
    if (status.ok()) pool.Free(table);
    return status;
  }

  RcuDomain rcu_{int64_t{64} << 20};
};

TEST_F(PageTableBudgetTest, PoolsShareItAndItsErrorNamesIt) {
  PageTableBudget budget(3 * kTable);
  PageTablePool a(rcu_, kPlenty, &budget);
  PageTablePool b(rcu_, kPlenty, &budget);
  std::vector<PageTable*> of_a = Take(a, 2);
  std::vector<PageTable*> of_b = Take(b, 1);
  EXPECT_EQ(budget.table_count(), 3);
  EXPECT_EQ(LimitOf(TryOne(a)), "max_page_table_bytes");
  EXPECT_EQ(LimitOf(TryOne(b)), "max_page_table_bytes");
  EXPECT_EQ(a.used_count(), 2) << "a refusal uses nothing";
  Free(a, of_a);
  Free(b, of_b);
}

TEST_F(PageTableBudgetTest, ALimitOfTheVmIsNamedAsSuch) {
  PageTableBudget budget(3 * kTable);
  PageTablePool pool(rcu_, 1 * kTable, &budget);
  std::vector<PageTable*> tables = Take(pool, 1);
  EXPECT_EQ(LimitOf(TryOne(pool)), "page_table_limit_bytes");
  Free(pool, tables);
}

TEST_F(PageTableBudgetTest, WhatOnePoolFreedAnotherMayHave) {
  PageTableBudget budget(4 * kTable);
  PageTablePool a(rcu_, kPlenty, &budget);
  PageTablePool b(rcu_, kPlenty, &budget);
  Free(a, Take(a, 4));
  EXPECT_EQ(budget.table_count(), 4) << "kept for the next use";
  std::vector<PageTable*> of_b = Take(b, 4);
  EXPECT_EQ(budget.table_count(), 4);
  EXPECT_EQ(LimitOf(TryOne(a)), "max_page_table_bytes");
  Free(b, of_b);
}

TEST_F(PageTableBudgetTest, ATableThatWasHandedBackIsNonPresentAgain) {
  PageTableBudget budget(1 * kTable);
  PageTablePool a(rcu_, kPlenty, &budget);
  PageTablePool b(rcu_, kPlenty, &budget);
  for (int round = 0; round < 3; ++round) {
    for (PageTablePool* pool : {&a, &b}) {
      std::vector<PageTable*> tables = Take(*pool, 1);
      for (int i = 0; i < kEntriesPerTable; ++i) {
        ASSERT_TRUE(ReadSpte(tables[0]->EntryAt(i)).IsNonPresent());
        WriteOwnedSpte(tables[0]->EntryAt(i), Spte::Frozen());
      }
      Free(*pool, tables);
    }
  }
}

TEST_F(PageTableBudgetTest, RetiredTablesOfThePoolAreWaitedFor) {
  PageTableBudget budget(2 * kTable);
  PageTablePool pool(rcu_, kPlenty, &budget);
  for (int i = 0; i < 50; ++i) {
    for (PageTable* table : Take(pool, 2)) pool.Retire(table);
  }
  rcu_.Barrier();
  EXPECT_EQ(budget.table_count(), 2);
}

TEST_F(PageTableBudgetTest, ARootIsExemptButCounts) {
  PageTableBudget budget(1 * kTable);
  PageTablePool pool(rcu_, kPlenty, &budget);
  PageTable* root = nullptr;
  ASSERT_TRUE(pool.AllocateExempt(&root).ok());
  EXPECT_EQ(LimitOf(TryOne(pool)), "max_page_table_bytes");
  PageTable* second = nullptr;
  ASSERT_TRUE(pool.AllocateExempt(&second).ok());
  EXPECT_EQ(budget.table_count(), 2);
  Free(pool, {root, second});
}

TEST_F(PageTableBudgetTest, APoolThatGoesGivesEverythingBack) {
  PageTableBudget budget(4 * kTable);
  {
    PageTablePool pool(rcu_, kPlenty, &budget);
    Free(pool, Take(pool, 4));
  }
  EXPECT_EQ(budget.table_count(), 0);
  PageTablePool pool(rcu_, kPlenty, &budget);
  Free(pool, Take(pool, 4));
}

TEST_F(PageTableBudgetTest, WhoWaitsIsToldOnceWhenAnotherPoolMakesRoomEnough) {
  PageTableBudget budget(4 * kTable);
  PageTablePool a(rcu_, kPlenty, &budget);
  PageTablePool b(rcu_, kPlenty, &budget);
  int told = 0;
  b.SetRoomListener([&] { ++told; });
  std::vector<PageTable*> of_a = Take(a, 4);
  EXPECT_FALSE(b.AwaitRoom(2));
  a.Free(of_a[0]);
  EXPECT_EQ(told, 0) << "it would be refused again";
  a.Retire(of_a[1]);
  rcu_.Barrier();
  EXPECT_EQ(told, 1);
  a.Free(of_a[2]);
  EXPECT_EQ(told, 1) << "nobody waits any more";
  EXPECT_TRUE(b.AwaitRoom(2)) << "there is room";
  Free(b, Take(b, 2));
  a.Free(of_a[3]);
}

TEST_F(PageTableBudgetTest, WhoWaitsForTheLimitOfItsPoolIsToldOfItsOwnOnly) {
  PageTableBudget budget(8 * kTable);
  PageTablePool a(rcu_, kPlenty, &budget);
  PageTablePool b(rcu_, 2 * kTable, &budget);
  int told = 0;
  b.SetRoomListener([&] { ++told; });
  std::vector<PageTable*> of_a = Take(a, 2);
  std::vector<PageTable*> of_b = Take(b, 2);
  EXPECT_FALSE(b.AwaitRoom(1));
  Free(a, of_a);
  EXPECT_EQ(told, 0);
  b.Free(of_b[0]);
  EXPECT_EQ(told, 1);
  b.Free(of_b[1]);
}

TEST_F(PageTableBudgetTest, WhatTheHostGotBackInBetweenIsRoom) {
  PageTableBudget budget(2 * kTable);
  PageTablePool b(rcu_, kPlenty, &budget);
  int told = 0;
  b.SetRoomListener([&] { ++told; });
  {
    PageTablePool a(rcu_, kPlenty, &budget);
    std::vector<PageTable*> of_a = Take(a, 2);
    EXPECT_FALSE(b.AwaitRoom(1));
    Free(a, of_a);
  }
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(b.AwaitRoom(2));
}

TEST_F(PageTableBudgetTest, WhoIsGoneOrDoesNotListenIsNotTold) {
  PageTableBudget budget(2 * kTable);
  PageTablePool a(rcu_, kPlenty, &budget);
  std::vector<PageTable*> of_a = Take(a, 2);
  int told = 0;
  {
    PageTablePool gone(rcu_, kPlenty, &budget);
    gone.SetRoomListener([&] { ++told; });
    EXPECT_FALSE(gone.AwaitRoom(1));
  }
  PageTablePool gave_up(rcu_, kPlenty, &budget);
  gave_up.SetRoomListener([&] { ++told; });
  EXPECT_FALSE(gave_up.AwaitRoom(1));
  gave_up.StopAwaitingRoom();
  PageTablePool deaf(rcu_, kPlenty, &budget);
  deaf.SetRoomListener([&] { ++told; });
  EXPECT_FALSE(deaf.AwaitRoom(1));
  deaf.SetRoomListener(nullptr);
  Free(a, of_a);
  EXPECT_EQ(told, 0);
}

// In each round one pool makes room once, while the other one finds none and
// begins to wait: who missed that would wait for ever.
TEST_F(PageTableBudgetTest, NobodyWaitsForRoomThatThereIs) {
  constexpr int kRounds = 20000;
  constexpr int kWanted = 2;
  PageTableBudget budget(kWanted * kTable);
  PageTablePool a(rcu_, kPlenty, &budget);
  PageTablePool b(rcu_, kPlenty, &budget);
  Mutex mutex;
  CondVar changed;
  bool room = false;
  b.SetRoomListener([&] {
    MutexLock lock(mutex);
    room = true;
    changed.NotifyAll();
  });
  std::barrier round(2);
  // The round that the waiter is about to try in.
  std::atomic<int> tries = -1;
  std::thread waiter([&] {
    for (int i = 0; i < kRounds; ++i) {
      round.arrive_and_wait();
      PageTableCache cache(b);
      tries = i;
      while (!cache.TopUp(kWanted).ok()) {
        while (cache.size() > 0) b.Free(cache.Take());
        if (b.AwaitRoom(kWanted)) continue;
        MutexLock lock(mutex);
        while (!room) changed.Wait(mutex);
        room = false;
      }
      while (cache.size() > 0) b.Free(cache.Take());
      round.arrive_and_wait();
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    const std::vector<PageTable*> of_a = Take(a, kWanted);
    round.arrive_and_wait();
    while (tries != i) std::this_thread::yield();
    // Anywhere in what the waiter does, in some round or other.
    for (std::atomic<int> spin = 0; spin < i % 256; ++spin) {
    }
    Free(a, of_a);
    round.arrive_and_wait();
  }
  waiter.join();
}

TEST_F(PageTableBudgetTest, IsNeverExceededAndAlwaysReachedAmongThreads) {
  constexpr int kThreads = 4;
  constexpr int kBudgetTables = 16;
  PageTableBudget budget(kBudgetTables * kTable);
  std::atomic<int> taken = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      PageTablePool pool(rcu_, kPlenty, &budget);
      for (int i = 0; i < 300; ++i) {
        std::vector<PageTable*> mine;
        PageTable* table = nullptr;
        while (static_cast<int>(mine.size()) < kBudgetTables &&
               pool.Allocate(&table).ok()) {
          mine.push_back(table);
          EXPECT_LE(++taken, kBudgetTables);
        }
        taken -= static_cast<int>(mine.size());
        Free(pool, mine);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.table_count(), 0);
  PageTablePool pool(rcu_, kPlenty, &budget);
  Free(pool, Take(pool, kBudgetTables));
}

}  // namespace
}  // namespace tdp
