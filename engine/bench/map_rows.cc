// E5, E6: mapping, by range and by fault.

#include <utility>
#include <vector>

#include "engine/base/check.h"
#include "engine/bench/baselines.h"
#include "engine/bench/fixture.h"
#include "engine/bench/rows.h"
#include "engine/paging/spte.h"

namespace tdp::bench {
namespace {

constexpr uint64_t kEmpty = Spte::NonPresent().raw();

void FaultEach(TdpMmu& mmu, absl::Span<const uint64_t> gfns) {
  for (const uint64_t gfn : gfns) {
    const FaultOutcome outcome =
        mmu.HandleFault({.gfn = Gfn(gfn), .write = true});
    TDP_CHECK(outcome.result == FaultResult::kFixed, "a fault was not served");
  }
}

void CompareExchangeEach(AtomicArray& array, absl::Span<const uint64_t> gfns) {
  for (const uint64_t gfn : gfns) {
    uint64_t expected = kEmpty;
    const bool written =
        array[gfn].compare_exchange_strong(expected, gfn << kPageShift | 7);
    TDP_CHECK(written, "an entry was not empty");
  }
}

}  // namespace

void RunMapRows(Harness& harness) {
  if (!harness.Wants("E5") && !harness.Wants("E6") && !harness.Wants("E6b") &&
      !harness.Wants("E6c")) {
    return;
  }
  const Options& options = harness.options();
  const uint64_t frames = GuestFrames(options);
  const uint64_t batch = BatchFrames(options);
  NullVm vm(frames);
  // The tables stay when their leaves go.
  vm.MapAll();
  vm.Zap(0, frames);
  AtomicArray array(frames, kEmpty, vm.TablesInHugePages());

  // Each side empties what a slice may touch, [first, first + count), before
  // it uses it, so that both find it in the same caches. `map` gets the slice.
  using Area = std::pair<uint64_t, uint64_t>;
  const auto engine_side = [&](auto area_of, auto map) {
    return [&vm, batch, area_of, map](int64_t slice) {
      const auto [first, count] = area_of(slice);
      vm.Zap(first, count);
      const Timer timer;
      map(slice);
      return timer.ns() / static_cast<double>(batch);
    };
  };
  const auto floor_side = [&](auto area_of, auto fill) {
    return [&array, batch, area_of, fill](int64_t slice) {
      const auto [first, count] = area_of(slice);
      array.Fill(first, count, kEmpty);
      const Timer timer;
      fill(slice);
      return timer.ns() / static_cast<double>(batch);
    };
  };
  const auto gib_of = [&](int64_t slice) -> Area {
    return {static_cast<uint64_t>(slice) * batch % frames, batch};
  };
  const auto everything = [&](int64_t) -> Area { return {0, frames}; };

  harness.Measure(
      {.id = "E5",
       .what = "MapRange of 1 GiB with 4K, a frame : compare-exchange",
       .candidate = engine_side(
           gib_of, [&](int64_t slice) { vm.Map(gib_of(slice).first, batch); }),
       .baseline = floor_side(gib_of,
                              [&](int64_t slice) {
                                array.CompareExchangeAll(gib_of(slice).first,
                                                         batch, kEmpty);
                              }),
       .target = 1.6});
  vm.Zap(0, frames);

  const auto measure_faults = [&](const char* id, const char* what,
                                  auto area_of, auto gfns_of, double target) {
    harness.Measure(
        {.id = id,
         .what = what,
         .candidate = engine_side(
             area_of,
             [&](int64_t slice) { FaultEach(vm.mmu(), gfns_of(slice)); }),
         .baseline = floor_side(area_of,
                                [&](int64_t slice) {
                                  CompareExchangeEach(array, gfns_of(slice));
                                }),
         .target = target});
    vm.Zap(0, frames);
  };
  const std::vector<uint64_t> keys = ShuffledFrames(frames, options.seed);
  measure_faults(
      "E6", "write fault on a fresh frame, random in 16 GiB : same floor",
      everything, [&](int64_t slice) { return Slice(keys, slice, batch); }, 4);
  // In one GiB the entries stay in the second-level cache.
  const auto first_gib = [&](int64_t) -> Area { return {0, batch}; };
  const std::vector<uint64_t> shuffled = ShuffledFrames(batch, options.seed);
  measure_faults(
      "E6b", "the same, random in 1 GiB", first_gib,
      [&](int64_t) { return absl::MakeConstSpan(shuffled); }, 0);
  std::vector<uint64_t> ascending(batch);
  for (uint64_t i = 0; i < batch; ++i) ascending[i] = i;
  measure_faults(
      "E6c", "the same, ascending in 1 GiB", first_gib,
      [&](int64_t) { return absl::MakeConstSpan(ascending); }, 0);
}

}  // namespace tdp::bench
