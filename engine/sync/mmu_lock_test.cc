#include "engine/sync/mmu_lock.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "engine/sync/rcu.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using sync_internal::kReaderSlotCount;
using sync_internal::OwnedReaderSlotsForTest;
using sync_internal::RefuseMembarrierForTest;

template <typename Predicate>
void YieldUntil(Predicate done) {
  while (!done()) std::this_thread::yield();
}

// Every test runs with membarrier and as if it were refused.
class MmuLockTest : public testing::TestWithParam<bool> {
 protected:
  MmuLockTest() { RefuseMembarrierForTest(GetParam()); }
  ~MmuLockTest() override { RefuseMembarrierForTest(false); }
};

INSTANTIATE_TEST_SUITE_P(Membarrier, MmuLockTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& test)
                             -> std::string {
                           return test.param ? "Refused" : "Allowed";
                         });

TEST_P(MmuLockTest, UncontendedUseIsNotContended) {
  MmuLock lock;
  {
    MmuReadGuard guard(lock);
    lock.AssertReaderHeld();
    EXPECT_FALSE(lock.IsContended());
  }
  {
    MmuWriteGuard guard(lock);
    lock.AssertWriterHeld();
    lock.AssertReaderHeld();
    EXPECT_FALSE(lock.IsContended());
  }
  MmuReadGuard guard(lock);
}

TEST_P(MmuLockTest, KnowsHowOftenAndHowLongWritersHeldIt) {
  MmuLock lock;
  lock.ReaderLock();
  lock.ReaderUnlock();
  EXPECT_EQ(lock.writer_holds().count, 0);
  timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  for (int i = 1; i <= 3; ++i) {
    lock.WriterLock();
    usleep(1000);
    EXPECT_EQ(lock.writer_holds().count, i - 1) << "it is held";
    lock.WriterUnlock();
    EXPECT_EQ(lock.writer_holds().count, i);
  }
  clock_gettime(CLOCK_MONOTONIC, &after);
  EXPECT_GE(lock.writer_holds().nanoseconds, 3'000'000);
  EXPECT_LE(lock.writer_holds().nanoseconds,
            (after.tv_sec - before.tv_sec) * 1'000'000'000 + after.tv_nsec -
                before.tv_nsec);
}

TEST_P(MmuLockTest, ReadersShare) {
  MmuLock lock;
  MmuReadGuard guard(lock);
  std::thread([&] { MmuReadGuard other(lock); }).join();
}

TEST_P(MmuLockTest, OneThreadHoldsSeveralLocks) {
  MmuLock first, second;
  MmuReadGuard read(first);
  MmuWriteGuard write(second);
  EXPECT_FALSE(first.IsContended());
  EXPECT_FALSE(second.IsContended());
}

// The lock lies in memory that must not be written any more.
TEST_P(MmuLockTest, UncontendedReaderWritesNothingInTheLock) {
  const size_t size = (sizeof(MmuLock) + getpagesize() - 1) &
                      ~static_cast<size_t>(getpagesize() - 1);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  MmuLock* lock = new (memory) MmuLock;
  ASSERT_EQ(mprotect(memory, size, PROT_READ), 0);
  for (int i = 0; i < 100; ++i) {
    MmuReadGuard guard(*lock);
    EXPECT_FALSE(lock->IsContended());
  }
  ASSERT_EQ(mprotect(memory, size, PROT_READ | PROT_WRITE), 0);
  lock->~MmuLock();
  munmap(memory, size);
}

TEST_P(MmuLockTest, WriterGoesBeforeReadersThatComeLater) {
  MmuLock lock;
  std::string order;  // guarded by the lock; readers here come one at a time
  lock.ReaderLock();
  std::thread writer([&] {
    MmuWriteGuard guard(lock);
    order += 'w';
  });
  YieldUntil([&] { return lock.IsContended(); });
  std::thread reader([&] {
    MmuReadGuard guard(lock);
    order += 'r';
  });
  YieldUntil([&] { return lock.WaitingReadersForTest() == 1; });
  lock.ReaderUnlock();
  writer.join();
  reader.join();
  EXPECT_EQ(order, "wr");
}

TEST_P(MmuLockTest, ReadersThatWaitedGoBeforeTheNextWriter) {
  MmuLock lock;
  std::string order;
  std::atomic<int> reads{0};
  lock.WriterLock();
  std::thread writer([&] {
    MmuWriteGuard guard(lock);
    order += reads == 2 ? "2 readers, then w" : "w too early";
  });
  YieldUntil([&] { return lock.WaitingWritersForTest() == 1; });
  auto read = [&] {
    MmuReadGuard guard(lock);
    ++reads;
  };
  std::thread first(read), second(read);
  YieldUntil([&] { return lock.WaitingReadersForTest() == 2; });
  EXPECT_TRUE(lock.IsContended());
  lock.WriterUnlock();
  writer.join();
  first.join();
  second.join();
  EXPECT_EQ(order, "2 readers, then w");
}

// Also in the moment between two writers, when nobody holds the lock.
TEST_P(MmuLockTest, WaitingWriterGoesBeforeReadersThatComeAfterAWriter) {
  for (int i = 0; i < 20; ++i) {
    MmuLock lock;
    std::string order;
    lock.WriterLock();
    std::thread writer([&] {
      MmuWriteGuard guard(lock);
      order += 'w';
    });
    YieldUntil([&] { return lock.WaitingWritersForTest() == 1; });
    lock.WriterUnlock();
    {
      MmuReadGuard guard(lock);
      EXPECT_EQ(order, "w");
    }
    writer.join();
  }
}

TEST_P(MmuLockTest, WriterIsContendedByOneWaitingReader) {
  MmuLock lock;
  lock.WriterLock();
  std::thread reader([&] {
    MmuReadGuard guard(lock);
    EXPECT_FALSE(lock.IsContended());
  });
  YieldUntil([&] { return lock.IsContended(); });
  EXPECT_EQ(lock.WaitingReadersForTest(), 1);
  lock.WriterUnlock();
  reader.join();
}

TEST_P(MmuLockTest, WriterIsContendedByOneWaitingWriter) {
  MmuLock lock;
  lock.WriterLock();
  std::thread writer([&] {
    MmuWriteGuard guard(lock);
    EXPECT_FALSE(lock.IsContended());
  });
  YieldUntil([&] { return lock.IsContended(); });
  EXPECT_EQ(lock.WaitingWritersForTest(), 1);
  lock.WriterUnlock();
  writer.join();
}

// Two plain counters that writers raise together: readers must see them equal,
// and no increment may be lost. Some readers come and go as threads.
TEST_P(MmuLockTest, ReadersSeeAllOrNothingOfAWriter) {
  constexpr int kWriters = 2, kReaders = 3, kWrites = 2000;
  MmuLock lock;
  int64_t first = 0, second = 0;
  std::atomic<int> writers_left{kWriters};
  std::vector<std::thread> threads;
  for (int t = 0; t < kWriters; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kWrites; ++i) {
        MmuWriteGuard guard(lock);
        ++first;
        if (i % 64 == 0) std::this_thread::yield();
        ++second;
      }
      --writers_left;
    });
  }
  for (int t = 0; t < kReaders; ++t) {
    threads.emplace_back([&] {
      while (writers_left > 0) {
        MmuReadGuard guard(lock);
        EXPECT_EQ(first, second);
      }
    });
  }
  while (writers_left > 0) {
    std::thread([&] {
      MmuReadGuard guard(lock);
      EXPECT_EQ(first, second);
    }).join();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(first, kWriters * kWrites);
}

// A reader leaves only while another is inside, so that the lock is never free
// of readers by chance; the last one leaves when all others wait for the
// writer.
TEST_P(MmuLockTest, WriterGetsInUnderPermanentReaders) {
  constexpr int kReaders = 3;
  MmuLock lock;
  std::atomic<bool> done{false};
  std::atomic<int> inside{0};
  auto may_leave = [&] {
    int count = inside;
    if (count >= 2) return inside.compare_exchange_strong(count, count - 1);
    if (!done && lock.WaitingReadersForTest() < kReaders - 1) return false;
    --inside;
    return true;
  };
  std::vector<std::thread> readers;
  for (int t = 0; t < kReaders; ++t) {
    readers.emplace_back([&] {
      while (!done) {
        MmuReadGuard guard(lock);
        ++inside;
        YieldUntil(may_leave);
      }
    });
  }
  for (int i = 0; i < 200; ++i) {
    YieldUntil([&] { return inside > 0; });
    MmuWriteGuard guard(lock);
    EXPECT_EQ(inside, 0);
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
}

TEST_P(MmuLockTest, ReadersGetInUnderPermanentWriters) {
  MmuLock lock;
  std::atomic<bool> done{false};
  std::vector<std::thread> writers;
  for (int t = 0; t < 2; ++t) {
    writers.emplace_back([&] {
      while (!done) {
        MmuWriteGuard guard(lock);
        std::this_thread::yield();
      }
    });
  }
  for (int i = 0; i < 200; ++i) MmuReadGuard guard(lock);
  done = true;
  for (std::thread& writer : writers) writer.join();
}

TEST_P(MmuLockTest, WriterWaitsForMoreReadersThanThereAreSlots) {
  constexpr int kReaders = kReaderSlotCount + 10;
  MmuLock lock;
  std::atomic<int> inside{0}, left{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> readers;
  for (int t = 0; t < kReaders; ++t) {
    readers.emplace_back([&] {
      MmuReadGuard guard(lock);
      ++inside;
      YieldUntil([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return go.load();
      });
      ++left;
    });
  }
  YieldUntil([&] { return inside == kReaders; });
  EXPECT_EQ(OwnedReaderSlotsForTest(), kReaderSlotCount);
  std::thread writer([&] {
    MmuWriteGuard guard(lock);
    EXPECT_EQ(left, kReaders);
  });
  YieldUntil([&] { return lock.WaitingWritersForTest() == 0; });
  go = true;
  writer.join();
  for (std::thread& reader : readers) reader.join();
  EXPECT_LT(OwnedReaderSlotsForTest(), kReaderSlotCount);
}

TEST_P(MmuLockTest, ThreadsThatEndGiveTheirSlotsBack) {
  MmuLock lock;
  {
    MmuReadGuard guard(lock);
  }
  const int owned = OwnedReaderSlotsForTest();
  for (int i = 0; i < kReaderSlotCount + 10; ++i) {
    std::thread([&] { MmuReadGuard guard(lock); }).join();
    ASSERT_EQ(OwnedReaderSlotsForTest(), owned);
  }
}

// What a reader did inside is done for a writer that then destroys the lock.
TEST_P(MmuLockTest, LockMayBeDestroyedByWhoeverHadItLast) {
  for (int i = 0; i < 300; ++i) {
    auto* lock = new MmuLock;
    std::atomic<bool> inside{false};
    int written = 0;
    std::thread reader([&] {
      MmuReadGuard guard(*lock);
      inside = true;
      written = 1;
    });
    YieldUntil([&] { return inside.load(); });
    {
      MmuWriteGuard guard(*lock);
    }
    delete lock;
    EXPECT_EQ(written, 1);
    reader.join();
  }
}

#ifndef NDEBUG
class MmuLockDeathTest : public testing::Test {
 protected:
  MmuLockDeathTest() { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
  MmuLock lock_;
  RcuDomain domain_{0};
};

TEST_F(MmuLockDeathTest, RecursionAborts) {
  auto read_again = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    lock_.ReaderLock();
    lock_.ReaderLock();
  };
  auto upgrade = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    lock_.ReaderLock();
    lock_.WriterLock();
  };
  EXPECT_DEATH(read_again(), "not recursive");
  EXPECT_DEATH(upgrade(), "not recursive");
}

TEST_F(MmuLockDeathTest, AcquiringInsideAReadSectionAborts) {
  EXPECT_DEATH(
      {
        RcuReadGuard section(domain_);
        MmuReadGuard guard(lock_);
      },
      "inside an RCU read section");
  EXPECT_DEATH(
      {
        RcuReadGuard section(domain_);
        MmuWriteGuard guard(lock_);
      },
      "inside an RCU read section");
}

TEST_F(MmuLockDeathTest, WaitingForReadersUnderTheLockAborts) {
  EXPECT_DEATH(
      {
        MmuReadGuard guard(lock_);
        domain_.Synchronize();
      },
      "under an MmuLock");
  EXPECT_DEATH(
      {
        MmuWriteGuard guard(lock_);
        domain_.WaitUntilUnderLimit();
      },
      "under an MmuLock");
}

TEST_F(MmuLockDeathTest, AssertingALockThatIsNotHeldAborts) {
  EXPECT_DEATH(lock_.AssertReaderHeld(), "not held");
  EXPECT_DEATH(
      {
        MmuReadGuard guard(lock_);
        lock_.AssertWriterHeld();
      },
      "not held");
}
#endif

}  // namespace
}  // namespace tdp
