#include "engine/base/sharded_counters.h"

#include <bit>

namespace tdp {
namespace {

// Bit i: a thread owns shard i.
constinit std::atomic<uint64_t> g_owned{uint64_t{1} << CounterShard::kShared};

}  // namespace

constinit thread_local size_t CounterShard::t_shard = CounterShard::kNone;

void CounterShard::Acquire() {
  uint64_t owned = g_owned.load(std::memory_order_relaxed);
  while (~owned != 0) {
    const int free = std::countr_one(owned);
    // Acquire: this thread goes on from the sums of the former owner.
    if (g_owned.compare_exchange_weak(owned, owned | uint64_t{1} << free,
                                      std::memory_order_acquire,
                                      std::memory_order_relaxed)) {
      t_shard = static_cast<size_t>(free);
      // Gives the shard back when the thread ends.
      static thread_local Release release;
      (void)release;
      return;
    }
  }
  t_shard = kShared;
}

CounterShard::Release::~Release() {
  const uint64_t bit = uint64_t{1} << t_shard;
  // What the thread still adds, in destructors that run later, is shared.
  t_shard = kShared;
  // Release: see Acquire().
  g_owned.fetch_and(~bit, std::memory_order_release);
}

}  // namespace tdp
