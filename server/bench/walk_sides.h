// The sides of rows that walk one frame a call.
//
// Thread safety: free functions; the sides belong to one thread.

#ifndef SERVER_BENCH_WALK_SIDES_H_
#define SERVER_BENCH_WALK_SIDES_H_

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/bench/harness.h"
#include "engine/bench/stats.h"
#include "server/bench/process_cpu.h"
#include "server/bench/world.h"

namespace tdp::server::bench {

// Nanoseconds of each call, one after the other.
inline std::vector<double> TimeWalks(BenchClient& client,
                                     absl::Span<const uint64_t> frames) {
  std::vector<double> times;
  times.reserve(frames.size());
  for (const uint64_t frame : frames) {
    const tdp::bench::Timer timer;
    client.WalkGfn(frame);
    times.push_back(timer.ns());
  }
  return times;
}

// CPU of a call, that of server and client together.
inline tdp::bench::Side WalkCpu(World& world, World::Server& server,
                                size_t calls) {
  return [&world, &server, calls](int64_t slice) {
    const CpuMeter meter(server.pid());
    for (const uint64_t frame : world.Frames(slice, calls)) {
      server.client->WalkGfn(frame);
    }
    return meter.ns() / static_cast<double>(calls);
  };
}

// The time that `fraction` of the calls do not exceed.
inline tdp::bench::Side WalkTime(World& world, World::Server& server,
                                 size_t calls, double fraction) {
  return [&world, &server, calls, fraction](int64_t slice) {
    return tdp::bench::Percentile(
        TimeWalks(*server.client, world.Frames(slice, calls)), fraction);
  };
}

// The suffix of the id, and what to say, of rows that are run with one CPU and
// with all of them.
inline std::string IdSuffix(Cpus cpus) {
  return cpus == Cpus::kOne ? "" : "-free";
}
inline std::string Where(Cpus cpus) {
  return cpus == Cpus::kOne ? "on one CPU" : "on all CPUs";
}

}  // namespace tdp::server::bench

#endif  // SERVER_BENCH_WALK_SIDES_H_
