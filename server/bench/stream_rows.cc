// R4: many small operations, pipelined over one stream, against a call for
// each.

#include <algorithm>
#include <utility>

#include "server/bench/rpc_rows.h"
#include "server/bench/walk_sides.h"

namespace tdp::server::bench {
namespace {

using tdp::bench::Better;
using tdp::bench::Harness;
using tdp::bench::Side;

constexpr int kOperationsPerMessage = 256;
// One in so many operations maps, and one zaps.
constexpr int kChangePeriod = 20;
constexpr int kZapAt = 0;
constexpr int kMapAt = 10;

// 90 % walks, 5 % zaps of single frames, 5 % maps of what was zapped before:
// the VM stays as full as it was.
template <typename Walk, typename Map, typename Zap>
void RunMix(const World& world, int64_t slice, int operations, Walk walk,
            Map map, Zap zap) {
  const auto frames = world.Frames(slice, static_cast<size_t>(operations));
  uint64_t zapped = 0;
  for (int i = 0; i < operations; ++i) {
    const uint64_t frame = frames[static_cast<size_t>(i)];
    if (i % kChangePeriod == kZapAt) {
      zap(frame);
      zapped = frame;
    } else if (i % kChangePeriod == kMapAt) {
      map(zapped);
    } else {
      walk(frame);
    }
  }
}

// All operations of a slice, in messages.
std::vector<v1::StreamOperationsRequest> MessagesOf(World& world, int64_t slice,
                                                    int operations) {
  std::vector<v1::StreamOperationsRequest> messages;
  auto next = [&, i = 0]() mutable {
    if (i++ % kOperationsPerMessage == 0) messages.emplace_back();
    return messages.back().add_operations();
  };
  RunMix(
      world, slice, operations,
      [&](uint64_t frame) { next()->set_walk_gfn(frame); },
      [&](uint64_t frame) {
        v1::MapRangeRequest& map = *next()->mutable_map();
        map.mutable_range()->set_start_gfn(frame);
        map.mutable_range()->set_end_gfn(frame + 1);
        map.set_max_level(v1::PAGE_LEVEL_4K);
        map.set_write(true);
      },
      [&](uint64_t frame) {
        v1::GfnRange& range = *next()->mutable_zap()->mutable_range();
        range.set_start_gfn(frame);
        range.set_end_gfn(frame + 1);
      });
  return messages;
}

// Both clients build their messages while they are measured.
Side StreamSide(World& world, int operations) {
  return [&world, operations](int64_t slice) {
    const CpuMeter meter(world.daemon().pid());
    std::vector<v1::StreamOperationsRequest> messages =
        MessagesOf(world, slice, operations);
    world.daemon().client->Stream(absl::MakeSpan(messages));
    return meter.ns() / operations;
  };
}

Side UnarySide(World& world, int operations) {
  return [&world, operations](int64_t slice) {
    BenchClient& client = *world.daemon().client;
    const CpuMeter meter(world.daemon().pid());
    RunMix(
        world, slice, operations,
        [&](uint64_t frame) { client.WalkGfn(frame); },
        [&](uint64_t frame) {
          client.Map(frame, frame + 1, v1::PAGE_LEVEL_4K);
        },
        [&](uint64_t frame) { client.Zap(frame, frame + 1); });
    return meter.ns() / operations;
  };
}

// Keeps what the side returns, for the thirds.
Side Kept(Side side, std::vector<double>& values) {
  return [side = std::move(side), &values](int64_t slice) {
    values.push_back(side(slice));
    return values.back();
  };
}

double ThirdOf(const std::vector<double>& values, size_t third) {
  const size_t size = std::max<size_t>(values.size() / 3, 1);
  const size_t begin = std::min(third * size, values.size() - 1);
  return tdp::bench::Median(absl::MakeConstSpan(values).subspan(begin, size));
}

}  // namespace

void RunStreamRows(Harness& harness, World& world) {
  if (!harness.Wants("R4")) return;
  if (!world.daemon().client->HasStream()) return;
  world.UseCpus(Cpus::kOne);
  const bool quick = harness.options().quick;
  std::vector<double> streamed;
  std::vector<double> unary;
  harness.Measure(
      {.id = "R4",
       .what = "walk 90 %, map 5 %, zap 5 %, operations a CPU-second: "
               "StreamOperations, 256 a message, over unary calls",
       .candidate = Kept(StreamSide(world, quick ? 512 : 16384), streamed),
       .baseline = Kept(UnarySide(world, quick ? 40 : 1024), unary),
       .better = Better::kAtLeast,
       .target = 50});
  for (const size_t third : {0, 1, 2}) {
    harness.Record({.id = absl::StrCat("R4-third", third + 1),
                    .what = "the same in a third of the run",
                    .unit = "x",
                    .value = ThirdOf(unary, third) / ThirdOf(streamed, third),
                    .judged = false});
  }
}

}  // namespace tdp::server::bench
