// tdp_bench: the page tables beside what a user would take instead, all in one
// program, in turns. `./deploy/dev.sh bench` runs it.

#include "engine/base/test_hooks.h"
#include "engine/bench/harness.h"
#include "engine/bench/machine.h"
#include "engine/bench/program.h"
#include "engine/bench/report.h"
#include "engine/bench/rows.h"

namespace tdp::bench {
namespace {

int Main(int argc, char** argv) {
  Program program("tdp_bench",
                  "Measures the page tables against what they replace.");
  if (const auto status = program.Parse(argc, argv)) return *status;
  PinToCpu(0);
  return program.Run([](Harness& harness) -> Facts {
    RunWalkRows(harness);
    RunMapRows(harness);
    RunZapRows(harness);
    RunHoldRows(harness);
    RunSharedLineRows(harness);
    RunTableBytesRows(harness);
    RunGuestRows(harness);
    RunDirtyLogRows(harness);
    RunUserfaultRows(harness);
    RunWindowRows(harness);
    RunMapAroundRows(harness);
    RunHarvestRows(harness);
    RunDirtyGuestRows(harness);
    RunKvmFaultRows(harness);
    return {{"lock hooks", test_hooks::kSeesLocks ? "yes" : "no"}};
  });
}

}  // namespace
}  // namespace tdp::bench

int main(int argc, char** argv) { return tdp::bench::Main(argc, argv); }
