#include "server/access/peer_cache.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace tdp::server {
namespace {

std::shared_ptr<const Peer> MakePeer(uint64_t id) {
  return std::make_shared<const Peer>(Peer{"somebody", Role::kObserver, id});
}

TEST(PeerCacheTest, KnowsAConnectionUnderItsGenerationOnly) {
  auto cache = std::make_unique<PeerCache>();
  const auto connection = std::make_shared<const int>(1);
  const auto other = std::make_shared<const int>(2);
  EXPECT_EQ(cache->Find(connection.get(), 1), nullptr);
  const auto peer = MakePeer(7);
  cache->Insert(connection, 1, peer);
  EXPECT_EQ(cache->Find(connection.get(), 1), peer);
  EXPECT_EQ(cache->Find(connection.get(), 2), nullptr);
  EXPECT_EQ(cache->Find(other.get(), 1), nullptr);
  cache->Insert(connection, 2, MakePeer(8));
  EXPECT_EQ(cache->Find(connection.get(), 1), nullptr);
  EXPECT_EQ(cache->Find(connection.get(), 2)->id, 8u);
}

TEST(PeerCacheTest, KeepsTheAddressesOfSoManyConnectionsAndNoMore) {
  auto cache = std::make_unique<PeerCache>();
  std::vector<std::weak_ptr<const int>> connections;
  for (int i = 0; i < 10000; ++i) {
    auto connection = std::make_shared<const int>(i);
    connections.push_back(connection);
    cache->Insert(std::move(connection), 1, MakePeer(i + 1));
  }
  size_t kept = 0;
  for (size_t i = 0; i < connections.size(); ++i) {
    const auto connection = connections[i].lock();
    if (connection == nullptr) continue;
    ++kept;
    // What is kept is found, and as what it is.
    const auto peer = cache->Find(connection.get(), 1);
    ASSERT_NE(peer, nullptr);
    EXPECT_EQ(peer->id, i + 1);
  }
  EXPECT_LE(kept, PeerCache::kSlotCount);
  EXPECT_GE(kept, PeerCache::kSlotCount / 2);
}

// Threads insert and find connections of their own that share all slots: each
// finds its own peers or none.
TEST(PeerCacheTest, ThreadsNeverFindEachOthersPeers) {
  auto cache = std::make_unique<PeerCache>();
  std::atomic<int> mistakes = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20000; ++i) {
        const uint64_t id = static_cast<uint64_t>(t) * 100000 + i + 1;
        const auto connection = std::make_shared<const int>(i);
        cache->Insert(connection, 1, MakePeer(id));
        const auto peer = cache->Find(connection.get(), 1);
        if (peer != nullptr && peer->id != id) ++mistakes;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(mistakes, 0);
}

}  // namespace
}  // namespace tdp::server
