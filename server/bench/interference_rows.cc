// R5: what a client with small calls notices of one with large ones.

#include <atomic>
#include <thread>

#include "server/bench/rpc_rows.h"
#include "server/bench/walk_sides.h"

namespace tdp::server::bench {
namespace {

using tdp::bench::Harness;
using tdp::bench::Side;

constexpr uint64_t kRangeFrames = uint64_t{1} << 18;  // 1 GiB

// A client of its own that maps and zaps all of a VM, over and over, while this
// lives.
class BulkLoad {
 public:
  BulkLoad(const std::string& address, uint64_t frame_count)
      : client_(address, "bulk"), frame_count_(frame_count) {
    client_.CreateVm(frame_count);
  }
  ~BulkLoad() { client_.DeleteVm(); }

  void Start() {
    stop_ = false;
    thread_ = std::thread([this] { Run(); });
  }
  void Stop() {
    stop_ = true;
    thread_.join();
  }

 private:
  void Run() {
    const uint64_t step = std::min(kRangeFrames, frame_count_);
    while (true) {
      for (const bool map : {true, false}) {
        for (uint64_t gfn = 0; gfn < frame_count_; gfn += step) {
          if (stop_) return;
          if (map) {
            client_.Map(gfn, gfn + step, v1::PAGE_LEVEL_UNSPECIFIED);
          } else {
            client_.Zap(gfn, gfn + step);
          }
        }
      }
    }
  }

  BenchClient client_;
  const uint64_t frame_count_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace

void RunInterferenceRows(Harness& harness, World& world) {
  if (!harness.Wants("R5") && !harness.Wants("R5-free")) return;
  const bool quick = harness.options().quick;
  const size_t calls = quick ? 20 : 500;
  BulkLoad load(world.daemon().address,
                quick ? world.frame_count() : 4 * kRangeFrames);
  for (const Cpus cpus : {Cpus::kOne, Cpus::kAll}) {
    world.UseCpus(cpus);
    const Side idle = WalkTime(world, world.daemon(), calls, 0.99);
    harness.Measure(
        {.id = absl::StrCat("R5", IdSuffix(cpus)),
         .what = "WalkGfn, p99: while another maps and zaps 4 GiB / idle, " +
                 Where(cpus),
         .candidate =
             [&load, idle](int64_t slice) {
               load.Start();
               const double time = idle(slice);
               load.Stop();
               return time;
             },
         .baseline = idle,
         .target = cpus == Cpus::kOne ? 3.0 : 0});
  }
}

}  // namespace tdp::server::bench
