// ShardedCounters: statistics that many threads add to without sharing a line.
//
// Each thread adds to a shard of its own, as long as there are no more threads
// than shards; a read sums the shards. Gauges are counters that also go down: a
// shard may be negative, the sum is exact when no thread adds.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_BASE_SHARDED_COUNTERS_H_
#define ENGINE_BASE_SHARDED_COUNTERS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tdp {

// `Id` is an enum class of consecutive values whose last one is kCount.
template <typename Id>
class ShardedCounters {
 public:
  void Add(Id id, int64_t delta) {
    // Relaxed: a statistic orders nothing.
    shards_[ThreadShard()].values[static_cast<size_t>(id)].fetch_add(
        delta, std::memory_order_relaxed);
  }

  int64_t Read(Id id) const {
    int64_t sum = 0;
    for (const Shard& shard : shards_) {
      sum +=
          shard.values[static_cast<size_t>(id)].load(std::memory_order_relaxed);
    }
    return sum;
  }

 private:
  static constexpr size_t kShards = 32;
  static constexpr size_t kIds = static_cast<size_t>(Id::kCount);

  struct alignas(128) Shard {
    std::array<std::atomic<int64_t>, kIds> values{};
  };

  static size_t ThreadShard() {
    static std::atomic<size_t> next_thread{0};
    thread_local const size_t shard =
        next_thread.fetch_add(1, std::memory_order_relaxed) % kShards;
    return shard;
  }

  std::array<Shard, kShards> shards_;
};

}  // namespace tdp

#endif  // ENGINE_BASE_SHARDED_COUNTERS_H_
