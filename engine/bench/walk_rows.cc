// E1 to E4: walks.

#include <algorithm>
#include <memory>
#include <thread>

#include "engine/bench/baselines.h"
#include "engine/bench/fixture.h"
#include "engine/bench/machine.h"
#include "engine/bench/rows.h"
#include "engine/bench/walks.h"

namespace tdp::bench {
namespace {

using Keys = absl::Span<const uint64_t>;

// The array, in the same runs as the tables.
uint64_t ReadRuns(AtomicArray& array, Keys keys) {
  uint64_t sum = 0;
  for (size_t begin = 0; begin < keys.size(); begin += kRunFrames) {
    const size_t end = std::min(begin + kRunFrames, keys.size());
    for (size_t i = begin; i < end; ++i) {
      sum ^= array[keys[i]].load(std::memory_order_seq_cst);
    }
  }
  return sum;
}

uint64_t ReadRunsPrefetched(AtomicArray& array, Keys keys) {
  uint64_t sum = 0;
  for (size_t begin = 0; begin < keys.size(); begin += kRunFrames) {
    const size_t end = std::min(begin + kRunFrames, keys.size());
    for (size_t i = begin; i < end; ++i) __builtin_prefetch(&array[keys[i]]);
    for (size_t i = begin; i < end; ++i) {
      sum ^= array[keys[i]].load(std::memory_order_seq_cst);
    }
  }
  return sum;
}

template <typename Find>
uint64_t FindEach(Keys keys, Find find) {
  uint64_t sum = 0;
  for (const uint64_t key : keys) sum ^= find(key);
  return sum;
}

// A side that passes the keys of its slice to `walk`, which returns a sum.
template <typename Walk>
Side WalkSide(const std::vector<uint64_t>& keys, uint64_t batch, Walk walk) {
  return [&keys, batch, walk](int64_t slice) {
    const Keys now = Slice(keys, slice, batch);
    const Timer timer;
    Sink(walk(now));
    return timer.ns() / static_cast<double>(batch);
  };
}

// The same in two threads, each with half of the slice; the cost is that of the
// two rates added up.
template <typename Walk>
Side TwoThreadSide(const std::vector<uint64_t>& keys, uint64_t batch,
                   SecondThread& second, Walk walk) {
  return [&keys, batch, &second, walk](int64_t slice) {
    const Keys now = Slice(keys, slice, batch);
    const uint64_t half = batch / 2;
    const auto work = [walk](Keys part, double* ns) {
      const Timer timer;
      Sink(walk(part));
      *ns = timer.ns() / static_cast<double>(part.size());
    };
    double ns[2];
    second.Start([&] { work(now.subspan(half), &ns[1]); });
    work(now.first(half), &ns[0]);
    second.Join();
    return 1 / (1 / ns[0] + 1 / ns[1]);
  };
}

}  // namespace

void RunWalkRows(Harness& harness) {
  const Options& options = harness.options();
  if (!harness.Wants("E1") && !harness.Wants("E1b") && !harness.Wants("E1c") &&
      !harness.Wants("E2") && !harness.Wants("E2b") && !harness.Wants("E3") &&
      !harness.Wants("E3b") && !harness.Wants("E4")) {
    return;
  }
  const uint64_t frames = GuestFrames(options);
  const uint64_t batch = BatchFrames(options);
  const std::vector<uint64_t> keys = ShuffledFrames(frames, options.seed);
  NullVm vm(frames);
  vm.MapAll();
  TdpMmu& mmu = vm.mmu();
  // The array gets the kind of pages that the tables have.
  const bool huge = vm.TablesInHugePages();
  AtomicArray array(frames, 7, huge);

  const auto runs = [&mmu](Keys now) { return WalkRuns(mmu, now); };
  const auto prefetched = [&mmu](Keys now) {
    return WalkRunsPrefetched(mmu, now);
  };
  const Side array_side = WalkSide(
      keys, batch, [&array](Keys now) { return ReadRuns(array, now); });
  harness.Measure(
      {.id = "E1",
       .what = "random walk, 4K leaves, a section for each run of 64 : array",
       .candidate = WalkSide(keys, batch, runs),
       .baseline = array_side,
       .target = 1.35},
      huge ? "both in huge pages" : "both in 4K pages");
  harness.Measure(
      {.id = "E1b",
       .what = "the same, a section for each walk",
       .candidate = WalkSide(keys, batch,
                             [&mmu](Keys now) { return WalkEach(mmu, now); }),
       .baseline = array_side,
       .target = 3.0});
  if (harness.Wants("E1c")) {
    AtomicArray other(frames, 7, !huge);
    harness.Measure(
        {.id = "E1c",
         .what = huge ? "E1 : array in 4K pages" : "E1 : array in huge pages",
         .candidate = WalkSide(keys, batch, runs),
         .baseline = WalkSide(keys, batch, [&other](Keys now) {
           return ReadRuns(other, now);
         })});
  }
  harness.Measure({.id = "E2",
                   .what = "E1 in batches of 64, prefetched : array",
                   .candidate = WalkSide(keys, batch, prefetched),
                   .baseline = array_side,
                   .target = 1.05});
  harness.Measure({.id = "E2b",
                   .what = "E2 : array, prefetched as well",
                   .candidate = WalkSide(keys, batch, prefetched),
                   .baseline = WalkSide(keys, batch, [&array](Keys now) {
                     return ReadRunsPrefetched(array, now);
                   })});
  if (harness.Wants("E3") || harness.Wants("E3b")) {
    const auto btree = std::make_unique<MutexBtree>(frames);
    const Side btree_side = WalkSide(keys, batch, [&btree](Keys now) {
      return FindEach(now, [&](uint64_t key) { return btree->Find(key); });
    });
    harness.Measure({.id = "E3",
                     .what = "absl::btree_map + mutex : E1",
                     .candidate = WalkSide(keys, batch, runs),
                     .baseline = btree_side,
                     .better = Better::kAtLeast,
                     .target = 15});
    harness.Measure({.id = "E3b",
                     .what = "absl::btree_map + mutex : E2",
                     .candidate = WalkSide(keys, batch, prefetched),
                     .baseline = btree_side,
                     .better = Better::kAtLeast,
                     .target = 25});
  }
  if (!harness.Wants("E4") || std::thread::hardware_concurrency() < 2) return;
  MutexRadix radix(frames);
  radix.MapAll();
  SecondThread second;
  harness.Measure({.id = "E4",
                   .what = "two threads: radix under one mutex : E1",
                   .candidate = TwoThreadSide(keys, batch, second, runs),
                   .baseline = TwoThreadSide(keys, batch, second,
                                             [&radix](Keys now) {
                                               return FindEach(
                                                   now, [&](uint64_t key) {
                                                     return radix.Walk(key);
                                                   });
                                             }),
                   .better = Better::kAtLeast,
                   .target = 10});
}

}  // namespace tdp::bench
