// ShardedCounters: statistics that many threads add to without sharing a line.
//
// A thread owns a shard while it lives, so that adding is a load and a store;
// threads beyond the number of shards share one and pay for it. A read sums the
// shards. Gauges are counters that also go down: a shard may be negative, the
// sum is exact when no thread adds.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_BASE_SHARDED_COUNTERS_H_
#define ENGINE_BASE_SHARDED_COUNTERS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tdp {

// Which shard the calling thread adds to.
class CounterShard {
 public:
  static constexpr size_t kOwned = 63;
  static constexpr size_t kShared = kOwned;  // the last one
  static constexpr size_t kCount = kOwned + 1;

  static size_t OfThread() {
    if (t_shard == kNone) [[unlikely]]
      Acquire();
    return t_shard;
  }

 private:
  static constexpr size_t kNone = ~size_t{0};
  struct Release {
    ~Release();
  };

  static void Acquire();

  static constinit thread_local size_t t_shard;
};

// `Id` is an enum class of consecutive values whose last one is kCount.
template <typename Id>
class ShardedCounters {
 public:
  void Add(Id id, int64_t delta) {
    const size_t shard = CounterShard::OfThread();
    std::atomic<int64_t>& value =
        shards_[shard].values[static_cast<size_t>(id)];
    // Relaxed: a statistic orders nothing.
    if (shard != CounterShard::kShared) [[likely]] {
      value.store(value.load(std::memory_order_relaxed) + delta,
                  std::memory_order_relaxed);
    } else {
      value.fetch_add(delta, std::memory_order_relaxed);
    }
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
  static constexpr size_t kIds = static_cast<size_t>(Id::kCount);

  struct alignas(128) Shard {
    std::array<std::atomic<int64_t>, kIds> values{};
  };

  std::array<Shard, CounterShard::kCount> shards_;
};

}  // namespace tdp

#endif  // ENGINE_BASE_SHARDED_COUNTERS_H_
