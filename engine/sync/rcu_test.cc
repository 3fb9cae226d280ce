#include "engine/sync/rcu.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace tdp {
namespace {

constexpr int64_t kNoLimit = int64_t{1} << 40;
constexpr uint64_t kCanary = 0x7dbdcafe7dbdcafe;

void YieldUntil(const std::atomic<bool>& flag) {
  while (!flag.load()) std::this_thread::yield();
}

struct Node {
  RcuHead head;  // first, so that a head is its node
  uint64_t canary = kCanary;
  std::atomic<int>* reclaimed = nullptr;
};
static_assert(std::is_standard_layout_v<Node>);

void ReclaimNode(RcuHead* head) {
  Node* node = reinterpret_cast<Node*>(head);
  node->canary = 0;
  if (node->reclaimed != nullptr) ++*node->reclaimed;
  delete node;
}

// A thread that stays in a read section until released.
class ParkedReader {
 public:
  explicit ParkedReader(RcuDomain& domain)
      : thread_([this, &domain] {
          RcuReadGuard guard(domain);
          inside_ = true;
          YieldUntil(released_);
        }) {
    YieldUntil(inside_);
  }
  ~ParkedReader() { Release(); }
  void Release() {
    released_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> inside_{false};
  std::atomic<bool> released_{false};
  std::thread thread_;
};

void ReadOnce(RcuDomain& domain) { RcuReadGuard guard(domain); }

TEST(RcuTest, ReadSectionsNest) {
  RcuDomain domain(kNoLimit);
  EXPECT_FALSE(RcuDomain::InReadSection());
  {
    RcuReadGuard outer(domain);
    ReadOnce(domain);
    EXPECT_TRUE(RcuDomain::InReadSection());
  }
  EXPECT_FALSE(RcuDomain::InReadSection());
}

TEST(RcuTest, MembarrierIsReportedAsTheKernelHasIt) {
  const long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  const bool has =
      commands > 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0;
  EXPECT_EQ(RcuDomain::UsesMembarrier(), has);
}

// As on a kernel without membarrier.
TEST(RcuTest, SectionsOfTheLibraryHoldBackToo) {
  RcuDomain domain(kNoLimit);
  std::atomic<int> reclaimed{0};
  std::atomic<bool> inside{false}, release{false};
  std::thread reader([&] {
    ReadOnce(domain);  // registers the thread
    sync_internal::t_rcu_thread = sync_internal::RcuThread::kByLibrary;
    RcuReadGuard outer(domain);
    ReadOnce(domain);
    inside = true;
    YieldUntil(release);
  });
  YieldUntil(inside);
  Node* node = new Node{.head = {}, .reclaimed = &reclaimed};
  domain.Retire(&node->head, 100, ReclaimNode);
  // Time for a wrong reclaim to happen; a right one cannot.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(reclaimed, 0);
  release = true;
  reader.join();
  domain.Barrier();
  EXPECT_EQ(reclaimed, 1);
}

TEST(RcuTest, RetiredObjectIsReclaimedOnceAndUncounted) {
  RcuDomain domain(kNoLimit);
  std::atomic<int> reclaimed{0};
  Node* node = new Node{.head = {}, .reclaimed = &reclaimed};
  domain.Retire(&node->head, 4096, ReclaimNode);
  domain.Barrier();
  EXPECT_EQ(reclaimed, 1);
  EXPECT_EQ(domain.retired_bytes(), 0);
  EXPECT_EQ(domain.retired_count(), 0);
}

TEST(RcuTest, CountsCoverWhatAReaderHoldsBack) {
  RcuDomain domain(kNoLimit);
  std::atomic<int> reclaimed{0};
  ParkedReader reader(domain);
  for (int i = 1; i <= 10; ++i) {
    Node* node = new Node{.head = {}, .reclaimed = &reclaimed};
    domain.Retire(&node->head, 100, ReclaimNode);
    EXPECT_EQ(domain.retired_bytes(), 100 * i);
    EXPECT_EQ(domain.retired_count(), i);
  }
  // Time for a wrong reclaim to happen; a right one cannot.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(reclaimed, 0);
  reader.Release();
  domain.Barrier();
  EXPECT_EQ(reclaimed, 10);
  EXPECT_EQ(domain.retired_count(), 0);
}

TEST(RcuTest, SynchronizeWaitsForTheOpenSection) {
  RcuDomain domain(kNoLimit);
  std::atomic<bool> inside{false}, returned{false};
  int written_in_section = 0;
  std::thread reader([&] {
    RcuReadGuard guard(domain);
    inside = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    EXPECT_FALSE(returned);
    written_in_section = 1;
  });
  YieldUntil(inside);
  domain.Synchronize();
  returned = true;
  EXPECT_EQ(written_in_section, 1);
  reader.join();
}

TEST(RcuTest, RetireIsAllowedInAReadSection) {
  RcuDomain domain(kNoLimit);
  {
    RcuReadGuard guard(domain);
    domain.Retire(&(new Node)->head, 1, ReclaimNode);
  }
  domain.Barrier();
  EXPECT_EQ(domain.retired_count(), 0);
}

struct Link {
  RcuHead head;
  RcuDomain* domain = nullptr;
  int links_left = 0;
  std::atomic<int>* reclaimed = nullptr;
};

// Also reads, on liburcu's own thread.
void ReclaimLink(RcuHead* head) {
  std::unique_ptr<Link> link(reinterpret_cast<Link*>(head));
  ReadOnce(*link->domain);
  ++*link->reclaimed;
  if (link->links_left-- > 0) {
    Link* next = link.release();
    next->domain->Retire(&next->head, 1, ReclaimLink);
  }
}

TEST(RcuTest, DestructorWaitsForObjectsRetiredByReclaimFunctions) {
  std::atomic<int> reclaimed{0};
  {
    RcuDomain domain(kNoLimit);
    Link* link = new Link{.head = {},
                          .domain = &domain,
                          .links_left = 3,
                          .reclaimed = &reclaimed};
    domain.Retire(&link->head, 1, ReclaimLink);
  }
  EXPECT_EQ(reclaimed, 4);
}

TEST(RcuTest, LimitIsExclusive) {
  RcuDomain domain(100);
  ParkedReader reader(domain);
  domain.Retire(&(new Node)->head, 100, ReclaimNode);
  EXPECT_FALSE(domain.OverLimit());
  domain.WaitUntilUnderLimit();
  domain.Retire(&(new Node)->head, 1, ReclaimNode);
  EXPECT_TRUE(domain.OverLimit());
  reader.Release();
  domain.WaitUntilUnderLimit();
  EXPECT_FALSE(domain.OverLimit());
}

// Two threads retire as fast as they can behind a parked reader. They must
// stop within the limit and one object each, and go on when it leaves.
TEST(RcuTest, ParkedReaderDelaysReclaimButBytesStayBounded) {
  constexpr int64_t kBytes = 4096, kLimit = 64 * kBytes;
  constexpr int kThreads = 2, kObjects = 500;
  RcuDomain domain(kLimit);
  ParkedReader reader(domain);
  std::atomic<int> reclaimed{0};
  std::atomic<int64_t> most{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kObjects; ++i) {
        Node* node = new Node{.head = {}, .reclaimed = &reclaimed};
        domain.Retire(&node->head, kBytes, ReclaimNode);
        int64_t now = domain.retired_bytes(), seen = most.load();
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        domain.WaitUntilUnderLimit();
      }
    });
  }
  while (!domain.OverLimit()) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(reclaimed, 0);
  EXPECT_LE(domain.retired_bytes(), kLimit + kThreads * kBytes);
  reader.Release();
  for (std::thread& thread : threads) thread.join();
  domain.Barrier();
  EXPECT_LE(most.load(), kLimit + kThreads * kBytes);
  EXPECT_EQ(reclaimed, kThreads * kObjects);
  EXPECT_EQ(domain.retired_bytes(), 0);
}

TEST(RcuTest, ThreadsThatEndAreForgotten) {
  RcuDomain domain(kNoLimit);
  for (int i = 0; i < 100; ++i) {
    std::thread([&] { ReadOnce(domain); }).join();
    domain.Synchronize();
  }
}

struct ReadsWhenDestroyed {
  explicit ReadsWhenDestroyed(RcuDomain& d) : domain(d) {}
  ~ReadsWhenDestroyed() { RcuReadGuard guard(domain); }
  RcuDomain& domain;
};

void ReadInKeyDestructor(void* domain) {
  RcuReadGuard guard(*static_cast<RcuDomain*>(domain));
}

TEST(RcuTest, ThreadMayReadWhileItsLocalsAreDestroyed) {
  RcuDomain domain(kNoLimit);
  ReadOnce(domain);  // our own key exists before this one
  pthread_key_t key;
  ASSERT_EQ(pthread_key_create(&key, ReadInKeyDestructor), 0);
  for (int i = 0; i < 20; ++i) {
    std::thread([&] {
      thread_local ReadsWhenDestroyed local(domain);
      pthread_setspecific(key, &domain);
      RcuReadGuard guard(domain);
      EXPECT_EQ(&local.domain, &domain);
    }).join();
    domain.Synchronize();
  }
  pthread_key_delete(key);
}

// Readers follow a pointer that two writers replace; a reclaimed node has no
// canary, and a freed one is for the sanitizers to see.
TEST(RcuTest, ReadersNeverSeeAReclaimedObject) {
  constexpr int kSwaps = 5000, kWriters = 2, kReaders = 2;
  RcuDomain domain(64 * 1024);
  std::atomic<int> reclaimed{0}, writers_left{kWriters};
  std::atomic<Node*> shared{new Node{.head = {}, .reclaimed = &reclaimed}};
  std::vector<std::thread> threads;
  for (int t = 0; t < kReaders; ++t) {
    threads.emplace_back([&] {
      while (writers_left > 0) {
        RcuReadGuard guard(domain);
        EXPECT_EQ(shared.load(std::memory_order_acquire)->canary, kCanary);
      }
    });
  }
  for (int t = 0; t < kWriters; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kSwaps; ++i) {
        Node* old =
            shared.exchange(new Node{.head = {}, .reclaimed = &reclaimed},
                            std::memory_order_acq_rel);
        domain.Retire(&old->head, sizeof(Node), ReclaimNode);
        domain.WaitUntilUnderLimit();
        if (i % 1000 == 0) domain.Barrier();
      }
      --writers_left;
    });
  }
  for (std::thread& thread : threads) thread.join();
  domain.Barrier();
  EXPECT_EQ(reclaimed, kSwaps * kWriters);
  EXPECT_EQ(domain.retired_count(), 0);
  delete shared.load();
}

#ifndef NDEBUG
TEST(RcuDeathTest, WaitingForReadersInsideAReadSectionAborts) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  RcuDomain domain(kNoLimit);
  EXPECT_DEATH(
      {
        RcuReadGuard guard(domain);
        domain.Synchronize();
      },
      "inside an RCU read section");
  EXPECT_DEATH(
      {
        RcuReadGuard guard(domain);
        domain.Barrier();
      },
      "inside an RCU read section");
  EXPECT_DEATH(
      {
        RcuReadGuard guard(domain);
        domain.WaitUntilUnderLimit();
      },
      "inside an RCU read section");
}
#endif

}  // namespace
}  // namespace tdp
