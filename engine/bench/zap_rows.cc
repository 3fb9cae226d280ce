// E7, E8: zapping, alone and beside faults.

#include <thread>

#include "engine/bench/baselines.h"
#include "engine/bench/fixture.h"
#include "engine/bench/rows.h"
#include "engine/paging/spte.h"

namespace tdp::bench {
namespace {

constexpr uint64_t kEmpty = Spte::NonPresent().raw();
constexpr uint64_t kFrozen = Spte::Frozen().raw();
constexpr uint64_t kMapped = 7;

void RunZapAlone(Harness& harness) {
  if (!harness.Wants("E7") && !harness.Wants("E7b")) return;
  const Options& options = harness.options();
  const uint64_t frames = GuestFrames(options);
  const uint64_t batch = BatchFrames(options);
  NullVm vm(frames);
  vm.MapAll();
  vm.Zap(0, frames);
  AtomicArray array(frames, kMapped, vm.TablesInHugePages());
  const Side zap = [&](int64_t slice) {
    const uint64_t first = static_cast<uint64_t>(slice) * batch % frames;
    vm.Map(first, batch);
    const Timer timer;
    vm.Zap(first, batch);
    return timer.ns() / static_cast<double>(batch);
  };
  const auto floor_side = [&](auto floor) {
    return [&array, frames, batch, floor](int64_t slice) {
      const uint64_t first = static_cast<uint64_t>(slice) * batch % frames;
      array.Fill(first, batch, kMapped);
      const Timer timer;
      floor(first);
      return timer.ns() / static_cast<double>(batch);
    };
  };
  harness.Measure({.id = "E7",
                   .what = "ZapRange of 1 GiB of 4K leaves : exchange, store",
                   .candidate = zap,
                   .baseline = floor_side([&](uint64_t first) {
                     array.ExchangeThenStore(first, batch, kFrozen, kEmpty);
                   }),
                   .target = 1.25});
  harness.Measure({.id = "E7b",
                   .what = "the same : one exchange",
                   .candidate = zap,
                   .baseline = floor_side([&](uint64_t first) {
                     array.ExchangeAll(first, batch, kEmpty);
                   })});
}

void RunFaultsBesideZap(Harness& harness) {
  if (!harness.Wants("E8") && !harness.Wants("E8b")) return;
  if (std::thread::hardware_concurrency() < 2) return;
  const Options& options = harness.options();
  const uint64_t batch = BatchFrames(options);
  const std::vector<uint64_t> order = ShuffledFrames(batch, options.seed);
  NullVm vm(batch);
  MutexRadix radix(batch);
  AtomicArray array(batch, kMapped, false);
  SecondThread second;
  const auto exchange_loop = [&] {
    while (!second.stopping()) array.ExchangeAll(0, batch, kMapped);
  };
  // Faults on every frame while the second thread does `other`. A fault that
  // was not served comes again, as a vCPU would.
  const auto side = [&](size_t count, auto empty, auto fault,
                        std::function<void()> other) {
    const auto some = absl::MakeConstSpan(order).first(count);
    return [some, &second, empty, fault, other](int64_t) {
      empty();
      second.Start(other);
      const Timer timer;
      for (const uint64_t gfn : some) fault(gfn);
      const double ns = timer.ns();
      second.StopAndJoin();
      return ns / static_cast<double>(some.size());
    };
  };
  const auto engine_empty = [&] { vm.Zap(0, batch); };
  const auto engine_fault = [&](uint64_t gfn) {
    while (vm.mmu().HandleFault({.gfn = Gfn(gfn), .write = true}).result ==
           FaultResult::kRetry) {
    }
  };
  harness.Measure(
      {.id = "E8",
       .what = "faults a second, zap loop beside : exchange floor beside",
       .candidate = side(batch, engine_empty, engine_fault,
                         [&] {
                           while (!second.stopping()) vm.Zap(0, batch);
                         }),
       .baseline = side(batch, engine_empty, engine_fault, exchange_loop),
       .better = Better::kAtLeast,
       .target = 0.8});
  // A fault waits for a whole zap here: fewer will do.
  const size_t few = batch / 64;
  const auto radix_empty = [&] { radix.Zap(0, batch); };
  const auto radix_fault = [&](uint64_t gfn) { radix.Fault(gfn); };
  harness.Measure(
      {.id = "E8b",
       .what = "the same for the radix under one mutex",
       .candidate = side(few, radix_empty, radix_fault,
                         [&] {
                           while (!second.stopping()) radix.Zap(0, batch);
                         }),
       .baseline = side(few, radix_empty, radix_fault, exchange_loop),
       .better = Better::kAtLeast});
}

}  // namespace

void RunZapRows(Harness& harness) {
  RunZapAlone(harness);
  RunFaultsBesideZap(harness);
}

}  // namespace tdp::bench
