#include "engine/paging/page_table_pool.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

#include "engine/base/errors.h"

namespace tdp {
namespace {

constexpr int64_t kTable = static_cast<int64_t>(sizeof(PageTable));

class PageTablePoolTest : public ::testing::Test {
 protected:
  PageTable* Allocate(PageTablePool& pool) {
    PageTable* table = nullptr;
    const absl::Status status = pool.Allocate(&table);
    EXPECT_TRUE(status.ok()) << status;
    return table;
  }
  static bool IsAllNonPresent(PageTable* table) {
    for (int i = 0; i < kEntriesPerTable; ++i) {
      if (!ReadSpte(table->EntryAt(i)).IsNonPresent()) return false;
    }
    return true;
  }

  RcuDomain rcu_{int64_t{64} << 20};
};

TEST_F(PageTablePoolTest, ANewTableIsAPageOfNonPresentEntries) {
  PageTablePool pool(rcu_, 16 * kTable);
  PageTable* table = Allocate(pool);
  EXPECT_EQ(reinterpret_cast<uint64_t>(table) % kPageSize, 0u);
  EXPECT_TRUE(IsAllNonPresent(table));
  EXPECT_EQ(pool.used_count(), 1);
  pool.Free(table);
  EXPECT_EQ(pool.used_count(), 0);
}

TEST_F(PageTablePoolTest, AReusedTableIsNonPresentAgain) {
  PageTablePool pool(rcu_, 1 * kTable);
  PageTable* table = Allocate(pool);
  for (int i = 0; i < kEntriesPerTable; ++i) {
    WriteOwnedSpte(table->EntryAt(i), Spte::Frozen());
  }
  PageTablePool::HeaderOf(table).level = PageLevel::k1G;
  pool.Free(table);
  PageTable* again = Allocate(pool);
  EXPECT_EQ(again, table);
  EXPECT_TRUE(IsAllNonPresent(again));
  EXPECT_EQ(PageTablePool::HeaderOf(again).level, PageLevel::k4K);
  pool.Free(again);
}

TEST_F(PageTablePoolTest, EveryTableOfSeveralChunksHasAHeaderOfItsOwn) {
  constexpr int kTables = 1200;  // three chunks
  PageTablePool pool(rcu_, kTables * kTable);
  std::vector<PageTable*> tables;
  std::set<PageTableHeader*> headers;
  for (int i = 0; i < kTables; ++i) {
    tables.push_back(Allocate(pool));
    PageTableHeader& header = PageTablePool::HeaderOf(tables.back());
    EXPECT_EQ(header.pool, &pool);
    header.base_gfn = Gfn(static_cast<uint64_t>(i));
    headers.insert(&header);
  }
  EXPECT_EQ(std::set(tables.begin(), tables.end()).size(), tables.size());
  EXPECT_EQ(headers.size(), tables.size());
  for (int i = 0; i < kTables; ++i) {
    EXPECT_EQ(PageTablePool::HeaderOf(tables[i]).base_gfn,
              Gfn(static_cast<uint64_t>(i)));
    EXPECT_TRUE(IsAllNonPresent(tables[i])) << "headers overlap no table";
    pool.Free(tables[i]);
  }
}

TEST_F(PageTablePoolTest, TheLimitIsExactAndItsErrorNamesIt) {
  PageTablePool pool(rcu_, 3 * kTable);
  std::vector<PageTable*> tables;
  for (int i = 0; i < 3; ++i) tables.push_back(Allocate(pool));
  PageTable* extra = nullptr;
  const absl::Status status = pool.Allocate(&extra);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kPageTableLimit);
  EXPECT_EQ(pool.used_count(), 3) << "a refusal uses nothing";
  pool.Free(tables.back());
  EXPECT_TRUE(pool.Allocate(&tables.back()).ok());
  for (PageTable* table : tables) pool.Free(table);
}

TEST_F(PageTablePoolTest, ARootIsExemptFromTheLimit) {
  PageTablePool pool(rcu_, 1 * kTable);
  PageTable* table = Allocate(pool);
  PageTable* root = nullptr;
  ASSERT_TRUE(pool.AllocateExempt(&root).ok());
  EXPECT_TRUE(IsAllNonPresent(root));
  pool.Free(root);
  pool.Free(table);
}

TEST_F(PageTablePoolTest, ARetiredTableIsKeptWhileAReaderMaySeeIt) {
  PageTablePool pool(rcu_, 4 * kTable);
  PageTable* table = Allocate(pool);
  {
    RcuReadGuard rcu(rcu_);
    pool.Retire(table);
    EXPECT_EQ(pool.retired_count(), 1);
    EXPECT_EQ(pool.used_count(), 1);
    EXPECT_TRUE(ReadSpte(table->EntryAt(0)).IsNonPresent());
  }
  rcu_.Barrier();
  EXPECT_EQ(pool.retired_count(), 0);
  EXPECT_EQ(pool.used_count(), 0);
}

TEST_F(PageTablePoolTest, AtTheLimitAnAllocationWaitsForRetiredTables) {
  PageTablePool pool(rcu_, 2 * kTable);
  for (int i = 0; i < 50; ++i) {
    PageTable* first = Allocate(pool);
    PageTable* second = Allocate(pool);
    ASSERT_NE(first, nullptr);
    ASSERT_NE(second, nullptr);
    pool.Retire(first);
    pool.Retire(second);
  }
  rcu_.Barrier();
  EXPECT_EQ(pool.used_count(), 0);
}

TEST_F(PageTablePoolTest, ACacheTakesInAdvanceAndGivesBackWhatIsLeft) {
  PageTablePool pool(rcu_, 8 * kTable);
  PageTable* taken = nullptr;
  {
    PageTableCache cache(pool);
    ASSERT_TRUE(cache.TopUp(4).ok());
    EXPECT_EQ(cache.size(), 4);
    ASSERT_TRUE(cache.TopUp(3).ok());
    EXPECT_EQ(cache.size(), 4) << "enough already";
    taken = cache.Take();
    PageTable* returned = cache.Take();
    cache.Return(returned);
    EXPECT_EQ(cache.size(), 3);
    EXPECT_EQ(pool.used_count(), 4);
  }
  EXPECT_EQ(pool.used_count(), 1);
  pool.Free(taken);
}

TEST_F(PageTablePoolTest, ACacheThatMeetsTheLimitKeepsWhatItHas) {
  PageTablePool pool(rcu_, 2 * kTable);
  PageTableCache cache(pool);
  const absl::Status status = cache.TopUp(3);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(DetailOf(status)->reason, ErrorReason::kPageTableLimit);
  EXPECT_EQ(cache.size(), 2);
}

TEST_F(PageTablePoolTest, ThreadsNeverShareATable) {
  constexpr int kThreads = 4;
  PageTablePool pool(rcu_, 64 * kTable);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        PageTable* table = nullptr;
        ASSERT_TRUE(pool.Allocate(&table).ok());
        const Spte mine = Spte::MakeLeaf({.pfn = Pfn(static_cast<uint64_t>(t))},
                                         PageLevel::k4K);
        ASSERT_TRUE(
            TryWriteSpte(table->EntryAt(i % 512), Spte::NonPresent(), mine));
        ASSERT_EQ(ReadSpte(table->EntryAt(i % 512)), mine);
        if (i % 2 == 0) {
          pool.Free(table);
        } else {
          pool.Retire(table);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  rcu_.Barrier();
  EXPECT_EQ(pool.used_count(), 0);
}

}  // namespace
}  // namespace tdp
