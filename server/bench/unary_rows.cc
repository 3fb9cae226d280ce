// R1: what the daemon adds to a unary call.

#include "server/bench/rpc_rows.h"
#include "server/bench/walk_sides.h"

namespace tdp::server::bench {

using tdp::bench::Harness;

void RunUnaryRows(Harness& harness, World& world) {
  const size_t calls = harness.options().quick ? 20 : 1000;
  World::Server& daemon = world.daemon();
  World::Server& echo = world.echo(World::kCq);
  for (const Cpus cpus : {Cpus::kOne, Cpus::kAll}) {
    world.UseCpus(cpus);
    // Between CPUs a call is mostly two wake-ups, which differ by more than
    // what is measured.
    const bool judged = cpus == Cpus::kOne;
    const std::string where = Where(cpus);
    harness.Measure({.id = absl::StrCat("R1", IdSuffix(cpus)),
                     .what = "WalkGfn / echo: CPU a call, " + where,
                     .candidate = WalkCpu(world, daemon, calls),
                     .baseline = WalkCpu(world, echo, calls),
                     .target = judged ? 1.05 : 0});
    harness.Measure({.id = absl::StrCat("R1b", IdSuffix(cpus)),
                     .what = "WalkGfn / echo: p50, " + where,
                     .candidate = WalkTime(world, daemon, calls, 0.5),
                     .baseline = WalkTime(world, echo, calls, 0.5),
                     .target = judged ? 1.05 : 0});
    harness.Measure({.id = absl::StrCat("R1c", IdSuffix(cpus)),
                     .what = "WalkGfn / echo: p99, " + where,
                     .candidate = WalkTime(world, daemon, calls, 0.99),
                     .baseline = WalkTime(world, echo, calls, 0.99),
                     .target = judged ? 1.10 : 0});
  }
}

}  // namespace tdp::server::bench
