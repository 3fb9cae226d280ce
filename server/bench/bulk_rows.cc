// R2 and R3: many frames in one message.

#include "server/bench/rpc_rows.h"
#include "server/bench/walk_sides.h"

namespace tdp::server::bench {
namespace {

using tdp::bench::Better;
using tdp::bench::Harness;
using tdp::bench::Side;
using tdp::bench::Timer;

// Runs `calls` calls and gives nanoseconds a frame, by a clock that starts when
// it is made.
template <typename MakeClock>
Side BatchSide(World& world, World::Server& server, int calls,
               MakeClock make_clock) {
  return [&world, &server, calls, make_clock](int64_t slice) {
    const auto clock = make_clock(server);
    for (int i = 0; i < calls; ++i) {
      server.client->WalkFrames(
          world.Frames(slice * calls + i, world.batch_size()));
    }
    return clock.ns() / static_cast<double>(calls) /
           static_cast<double>(world.batch_size());
  };
}

}  // namespace

void RunBulkRows(Harness& harness, World& world) {
  world.UseCpus(Cpus::kOne);
  const int calls = harness.options().quick ? 2 : 50;
  World::Server& daemon = world.daemon();
  World::Server& echo = world.echo(World::kCq);
  const auto cpu = [](const World::Server& server) {
    return CpuMeter(server.pid());
  };
  const auto wall = [](const World::Server&) { return Timer(); };
  harness.Measure({.id = "R2",
                   .what = "WalkFrames of 4,096 / echo: CPU, on one CPU",
                   .candidate = BatchSide(world, daemon, calls, cpu),
                   .baseline = BatchSide(world, echo, calls, cpu),
                   .target = 1.25});
  harness.Measure({.id = "R2b",
                   .what = "WalkFrames of 4,096 / echo: time, on one CPU",
                   .candidate = BatchSide(world, daemon, calls, wall),
                   .baseline = BatchSide(world, echo, calls, wall),
                   .target = 1.25});
  harness.Measure(
      {.id = "R3",
       .what = "frames a CPU-second: WalkFrames of 4,096 over WalkGfn",
       .candidate = BatchSide(world, daemon, calls, cpu),
       .baseline = WalkCpu(world, daemon, harness.options().quick ? 20 : 500),
       .better = Better::kAtLeast,
       .target = 300});
}

}  // namespace tdp::server::bench
