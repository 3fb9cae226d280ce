// R6: the daemon against the best of gRPC's server APIs, and what these cost.

#include <algorithm>
#include <array>

#include "absl/strings/str_format.h"
#include "server/bench/rpc_rows.h"
#include "server/bench/walk_sides.h"

namespace tdp::server::bench {
namespace {

using tdp::bench::Harness;
using tdp::bench::Median;
using tdp::bench::Percentile;
using tdp::bench::Timer;

constexpr double kNsPerUs = 1e3;

// One server's figures, of several turns.
struct Figures {
  std::vector<double> p50;
  std::vector<double> p99;
  std::vector<double> cpu;
  std::vector<double> seconds;  // of a call
};

void Take(World& world, World::Server& server, int64_t slice, size_t calls,
          int in_flight, Figures& figures) {
  const CpuMeter meter(server.pid());
  const Timer timer;
  const auto frames = world.Frames(slice, calls);
  const std::vector<double> times =
      in_flight == 1 ? TimeWalks(*server.client, frames)
                     : server.client->WalkPipelined(frames, in_flight);
  const auto count = static_cast<double>(calls);
  figures.seconds.push_back(timer.ns() / count / 1e9);
  figures.cpu.push_back(meter.ns() / count);
  figures.p50.push_back(Percentile(times, 0.5));
  figures.p99.push_back(Percentile(times, 0.99));
}

void Report(Harness& harness, const std::string& name, int in_flight, Cpus cpus,
            const Figures& figures) {
  harness.Record(
      {.id = absl::StrCat("R6-", name, "-", in_flight, IdSuffix(cpus)),
       .what = absl::StrCat("WalkGfn of ", name, ", ", in_flight,
                            " in flight, p50, ", Where(cpus)),
       .unit = "us",
       .value = Median(figures.p50) / kNsPerUs,
       .judged = false,
       .note = absl::StrFormat("p99 %.0f us, CPU %.1f us, %.0f calls a second",
                               Median(figures.p99) / kNsPerUs,
                               Median(figures.cpu) / kNsPerUs,
                               1 / Median(figures.seconds))});
}

}  // namespace

void RunApiRows(Harness& harness, World& world) {
  const bool quick = harness.options().quick;
  if (!harness.Wants("R6")) return;
  const size_t calls = quick ? 20 : 1000;
  const int turns = quick ? 1 : 15;
  for (const Cpus cpus : {Cpus::kOne, Cpus::kAll}) {
    world.UseCpus(cpus);
    World::Api best = World::kCq;
    for (const int in_flight : {1, 8}) {
      // In turns, so that they share the machine's good and bad moments.
      Figures daemon;
      std::array<Figures, World::kApis.size()> echos;
      for (int turn = 0; turn < turns; ++turn) {
        Take(world, world.daemon(), turn, calls, in_flight, daemon);
        for (const World::Api api : World::kApis) {
          Take(world, world.echo(api), turn, calls, in_flight, echos[api]);
        }
      }
      Report(harness, "tdpd", in_flight, cpus, daemon);
      for (const World::Api api : World::kApis) {
        Report(harness, World::NameOf(api), in_flight, cpus, echos[api]);
        if (in_flight == 1 &&
            Median(echos[api].p50) < Median(echos[best].p50)) {
          best = api;
        }
      }
    }
    harness.Measure({.id = absl::StrCat("R6", IdSuffix(cpus)),
                     .what = "WalkGfn / the best bare API: p50, " + Where(cpus),
                     .candidate = WalkTime(world, world.daemon(), calls, 0.5),
                     .baseline = WalkTime(world, world.echo(best), calls, 0.5),
                     .target = 1.05},
                    absl::StrCat("the best is ", World::NameOf(best)));
  }
}

}  // namespace tdp::server::bench
