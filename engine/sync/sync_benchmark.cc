// What a read section, a reader lock and a pin cost, beside the locks that they
// replace. Each with one and two threads.

#include <shared_mutex>

#include "absl/synchronization/mutex.h"
#include "benchmark/benchmark.h"
#include "engine/sync/mmu_lock.h"
#include "engine/sync/mutex.h"
#include "engine/sync/pin_count.h"
#include "engine/sync/rcu.h"

namespace tdp {
namespace {

RcuDomain* SharedDomain() {
  static RcuDomain* const domain = new RcuDomain(int64_t{1} << 26);
  return domain;
}

void BM_RcuRead_Section(benchmark::State& state) {
  RcuDomain* domain = SharedDomain();
  for (auto _ : state) {
    RcuReadGuard guard(*domain);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_RcuRead_Section)->ThreadRange(1, 2);

void BM_ReaderLock_MmuLock(benchmark::State& state) {
  static MmuLock lock;
  for (auto _ : state) {
    MmuReadGuard guard(lock);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_ReaderLock_MmuLock)->ThreadRange(1, 2);

void BM_ReaderLock_SharedMutex(benchmark::State& state) {
  static std::shared_mutex lock;
  for (auto _ : state) {
    std::shared_lock<std::shared_mutex> guard(lock);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_ReaderLock_SharedMutex)->ThreadRange(1, 2);

void BM_ReaderLock_AbslMutex(benchmark::State& state) {
  static absl::Mutex lock;
  for (auto _ : state) {
    absl::ReaderMutexLock guard(&lock);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_ReaderLock_AbslMutex)->ThreadRange(1, 2);

void BM_WriterLock_MmuLock(benchmark::State& state) {
  static MmuLock lock;
  for (auto _ : state) {
    MmuWriteGuard guard(lock);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_WriterLock_MmuLock)->ThreadRange(1, 2);

void BM_Pin_PinCount(benchmark::State& state) {
  static PinCount pins;
  for (auto _ : state) {
    benchmark::DoNotOptimize(pins.TryPin());
    pins.Unpin();
  }
}
BENCHMARK(BM_Pin_PinCount)->ThreadRange(1, 2);

void BM_Lock_Mutex(benchmark::State& state) {
  static Mutex lock;
  for (auto _ : state) {
    MutexLock guard(lock);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_Lock_Mutex)->ThreadRange(1, 2);

void BM_Retire_Object(benchmark::State& state) {
  RcuDomain* domain = SharedDomain();
  for (auto _ : state) {
    domain->Retire(new RcuHead, sizeof(RcuHead),
                   [](RcuHead* head) { delete head; });
    domain->WaitUntilUnderLimit();
  }
  domain->Barrier();
}
BENCHMARK(BM_Retire_Object);

}  // namespace
}  // namespace tdp

BENCHMARK_MAIN();
