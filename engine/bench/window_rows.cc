// F2, F3: MapRange and ZapRange of a memslot, against the bare calls that map
// and unmap a window. Both on the same window: where the host's memory lies
// makes a third of the cost.

#include "engine/base/check.h"
#include "engine/bench/bare_userfault.h"
#include "engine/bench/engine_memory.h"
#include "engine/bench/fixture.h"
#include "engine/bench/rows.h"

namespace tdp::bench {

void RunWindowRows(Harness& harness) {
  if (!harness.Wants("F2") && !harness.Wants("F2b") && !harness.Wants("F2c") &&
      !harness.Wants("F3") && !harness.Wants("F3b")) {
    return;
  }
  const uint64_t frames = BatchFrames(harness.options());
  const auto each = static_cast<double>(frames);
  EngineMemory memory(frames);
  const BareCalls calls(memory.memslot()->window_hva(),
                        memory.memslot()->uffd());
  // Nanoseconds for each frame of `timed`, between two steps that are not.
  const auto side = [&](auto before, auto timed, auto after) -> Side {
    return [each, before, timed, after](int64_t) {
      before();
      const Timer timer;
      timed();
      const double ns = timer.ns();
      after();
      return ns / each;
    };
  };
  const auto nothing = [] {};
  const auto map = [&](PageLevel level) {
    return [&memory, level] { memory.Map(level); };
  };
  const auto zap = [&] {
    TDP_CHECK(memory.Zap() == static_cast<int64_t>(frames),
              "every frame was mapped");
  };
  const auto drop_tables = [&] { memory.DropTables(); };
  const auto zap_and_drop = [&] {
    zap();
    drop_tables();
  };
  const auto bare_map = [&] { calls.Map(0, frames); };
  const auto bare_zap = [&] { calls.Zap(0, frames); };

  const Side bare_map_side = side(nothing, bare_map, bare_zap);
  harness.Measure(
      {.id = "F2",
       .what = "MapRange of 1 GiB, fresh : UFFDIO_CONTINUE of 2 MiB",
       .candidate = side(nothing, map(PageLevel::k2M), zap_and_drop),
       .baseline = bare_map_side,
       .target = 1.05},
      "pages allocated; at the default level, so 2M leaves");
  // The tables stay when their leaves go.
  memory.Map(PageLevel::k4K);
  memory.Zap();
  harness.Measure({.id = "F2b",
                   .what = "the same, 4K leaves in tables that exist",
                   .candidate = side(nothing, map(PageLevel::k4K), zap),
                   .baseline = bare_map_side,
                   .target = 1.15});
  harness.Measure({.id = "F2c",
                   .what = "the same, 4K leaves, tables to be made",
                   .candidate = side(drop_tables, map(PageLevel::k4K), zap),
                   .baseline = bare_map_side});

  const Side bare_zap_side = side(bare_map, bare_zap, nothing);
  harness.Measure({.id = "F3",
                   .what = "ZapRange of 1 GiB : MADV_DONTNEED of 2 MiB",
                   .candidate = side(map(PageLevel::k2M), zap, drop_tables),
                   .baseline = bare_zap_side,
                   .target = 1.1},
                  "2M leaves, as MapRange makes them");
  harness.Measure({.id = "F3b",
                   .what = "the same, 4K leaves",
                   .candidate = side(map(PageLevel::k4K), zap, nothing),
                   .baseline = bare_zap_side,
                   .target = 1.1});
}

}  // namespace tdp::bench
