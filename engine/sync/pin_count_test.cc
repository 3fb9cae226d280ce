#include "engine/sync/pin_count.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "engine/sync/mmu_lock.h"
#include "engine/sync/rcu.h"
#include "gtest/gtest.h"

namespace tdp {
namespace {

using sync_internal::kEntriesPerSlot;
using sync_internal::kReaderSlotCount;
using sync_internal::RefuseMembarrierForTest;

template <typename Predicate>
void YieldUntil(Predicate done) {
  while (!done()) std::this_thread::yield();
}

// Every test runs with membarrier and as if it were refused.
class PinCountTest : public testing::TestWithParam<bool> {
 protected:
  PinCountTest() { RefuseMembarrierForTest(GetParam()); }
  ~PinCountTest() override { RefuseMembarrierForTest(false); }
};

INSTANTIATE_TEST_SUITE_P(Membarrier, PinCountTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& test)
                             -> std::string {
                           return test.param ? "Refused" : "Allowed";
                         });

TEST_P(PinCountTest, OpenPinsAndClosedRefuses) {
  PinCount pins;
  EXPECT_FALSE(pins.closed());
  ASSERT_TRUE(pins.TryPin());
  pins.Unpin();
  pins.CloseAndDrain();
  EXPECT_TRUE(pins.closed());
  EXPECT_FALSE(pins.TryPin());
  pins.CloseAndDrain();
  pins.Reopen();
  EXPECT_FALSE(pins.closed());
  ASSERT_TRUE(pins.TryPin());
  pins.Unpin();
}

TEST_P(PinCountTest, CloseWaitsForThePin) {
  PinCount pins;
  std::atomic<bool> drained{false};
  ASSERT_TRUE(pins.TryPin());
  std::thread closer([&] {
    pins.CloseAndDrain();
    drained = true;
  });
  YieldUntil([&] { return pins.closed(); });
  EXPECT_FALSE(pins.TryPin());
  // Time for the closer to fall asleep, and for a wrong one to return.
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_FALSE(drained);
  pins.Unpin();
  closer.join();
}

// More pins than a slot has entries, some of them of the same object.
TEST_P(PinCountTest, OneThreadHoldsManyPins) {
  constexpr int kObjects = kEntriesPerSlot, kPins = 3;
  PinCount pins[kObjects];
  for (int round = 0; round < kPins; ++round) {
    for (PinCount& each : pins) ASSERT_TRUE(each.TryPin());
  }
  for (PinCount& each : pins) {
    std::atomic<bool> drained{false};
    std::thread closer([&] {
      each.CloseAndDrain();
      drained = true;
    });
    YieldUntil([&] { return each.closed(); });
    for (int round = 0; round < kPins; ++round) {
      EXPECT_FALSE(drained);
      each.Unpin();
    }
    closer.join();
  }
}

TEST_P(PinCountTest, ClosersOfOneObjectAllReturn) {
  PinCount pins;
  ASSERT_TRUE(pins.TryPin());
  std::vector<std::thread> closers;
  for (int i = 0; i < 4; ++i)
    closers.emplace_back([&] { pins.CloseAndDrain(); });
  YieldUntil([&] { return pins.closed(); });
  pins.Unpin();
  for (std::thread& closer : closers) closer.join();
  EXPECT_FALSE(pins.TryPin());
}

TEST_P(PinCountTest, PinningWritesNothingInTheObject) {
  const size_t size = static_cast<size_t>(getpagesize());
  static_assert(sizeof(PinCount) <= 4096);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  PinCount* pins = new (memory) PinCount;
  ASSERT_EQ(mprotect(memory, size, PROT_READ), 0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(pins->TryPin());
    pins->Unpin();
  }
  munmap(memory, size);
}

TEST_P(PinCountTest, CloseWaitsForMoreThreadsThanThereAreSlots) {
  constexpr int kThreads = kReaderSlotCount + 10;
  PinCount pins;
  std::atomic<int> pinned{0}, unpinned{0};
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      EXPECT_TRUE(pins.TryPin());
      ++pinned;
      YieldUntil([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return go.load();
      });
      EXPECT_FALSE(pins.TryPin());
      ++unpinned;
      pins.Unpin();
    });
  }
  YieldUntil([&] { return pinned == kThreads; });
  std::thread closer([&] {
    pins.CloseAndDrain();
    EXPECT_EQ(unpinned, kThreads);
  });
  YieldUntil([&] { return pins.closed(); });
  go = true;
  closer.join();
  for (std::thread& thread : threads) thread.join();
}

// The closer writes plain memory that those who hold pins read: an overlap
// shows as an odd value, and to ThreadSanitizer. Those refused keep trying.
TEST_P(PinCountTest, NobodyIsInsideWhileItIsClosed) {
  constexpr int kThreads = 3, kRounds = 1000;
  PinCount pins;
  int64_t value = 0;
  std::atomic<bool> done{false};
  std::atomic<int64_t> pinned{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      while (!done) {
        if (!pins.TryPin()) continue;
        EXPECT_EQ(value % 2, 0);
        ++pinned;
        pins.Unpin();
      }
    });
  }
  for (int i = 0; i < kRounds; ++i) {
    pins.CloseAndDrain();
    ++value;
    if (i % 64 == 0) std::this_thread::yield();
    ++value;
    pins.Reopen();
    // Lets somebody in each time, or the rounds would prove nothing.
    if (i % 64 == 0) {
      const int64_t before = pinned;
      YieldUntil([&] { return pinned != before; });
    }
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
}

struct Object {
  PinCount pins;
  uint64_t alive = 1;
};

// As memslots live: found under RCU, pinned, used outside RCU. The owner
// unlinks, drains, waits for a grace period and frees; a late touch of the
// PinCount is for the sanitizers to see.
TEST_P(PinCountTest, ObjectMayBeFreedAfterTheDrain) {
  constexpr int kThreads = 2, kObjects = 300;
  RcuDomain domain(1 << 20);
  std::atomic<Object*> current{new Object};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      while (!done) {
        Object* object = nullptr;
        {
          RcuReadGuard guard(domain);
          object = current.load(std::memory_order_acquire);
          if (!object->pins.TryPin()) continue;
        }
        EXPECT_EQ(object->alive, 1u);
        object->pins.Unpin();
      }
    });
  }
  for (int i = 0; i < kObjects; ++i) {
    Object* old = current.exchange(new Object, std::memory_order_acq_rel);
    old->pins.CloseAndDrain();
    old->alive = 0;
    domain.Synchronize();
    delete old;
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  delete current.load();
}

#ifndef NDEBUG
TEST(PinCountDeathTest, DrainingUnderAnMmuLockAborts) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  PinCount pins;
  MmuLock lock;
  EXPECT_DEATH(
      {
        MmuReadGuard guard(lock);
        pins.CloseAndDrain();
      },
      "under an MmuLock");
}
#endif

TEST(PinCountDeathTest, ThreadThatEndsWithAPinAborts) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  PinCount pins;
  EXPECT_DEATH(std::thread([&] { EXPECT_TRUE(pins.TryPin()); }).join(),
               "a thread ended that holds a lock or a pin");
}

}  // namespace
}  // namespace tdp
