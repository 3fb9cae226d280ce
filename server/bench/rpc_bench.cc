// rpc_bench: the daemon as shipped beside bare gRPC servers, in turns, each in
// a process of its own. `./deploy/dev.sh bench` runs it.

#include "engine/bench/program.h"
#include "server/bench/rpc_rows.h"
#include "server/bench/world.h"

namespace tdp::server::bench {
namespace {

constexpr uint64_t kFrames = uint64_t{1} << 18;  // 1 GiB
constexpr uint64_t kQuickFrames = uint64_t{1} << 12;

int Main(int argc, char** argv) {
  tdp::bench::Program program("rpc_bench",
                              "Measures the daemon against bare gRPC servers.");
  WorldOptions options = {.tdpd = "server/tdpd",
                          .echo_server = "server/bench/echo_server",
                          .hypervisor = "auto"};
  program.app().add_option("--tdpd", options.tdpd, "the daemon");
  program.app().add_option("--echo_server", options.echo_server,
                           "the bare servers");
  program.app().add_option("--hypervisor", options.hypervisor,
                           "of the VM: auto, kvm or software");
  if (const auto status = program.Parse(argc, argv)) return *status;
  options.seed = program.options().seed;
  options.frame_count = program.options().quick ? kQuickFrames : kFrames;

  return program.Run([&](tdp::bench::Harness& harness) -> tdp::bench::Facts {
    World world(options);
    RunUnaryRows(harness, world);
    RunBulkRows(harness, world);
    RunStreamRows(harness, world);
    RunInterferenceRows(harness, world);
    RunApiRows(harness, world);
    RunAttackRows(harness, world);
    return {{"hypervisor", world.Hypervisor()}};
  });
}

}  // namespace
}  // namespace tdp::server::bench

int main(int argc, char** argv) { return tdp::server::bench::Main(argc, argv); }
