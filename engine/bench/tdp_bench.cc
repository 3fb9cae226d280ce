// tdp_bench: the page tables beside what a user would take instead, all in one
// program, in turns. `./deploy/dev.sh bench` runs it.

#include <sched.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/test_hooks.h"
#include "engine/bench/harness.h"
#include "engine/bench/machine.h"
#include "engine/bench/report.h"
#include "engine/bench/rows.h"

namespace tdp::bench {
namespace {

int Main(int argc, char** argv) {
  Options options;
  std::string json;
  std::string commit;
  CLI::App app("Measures the page tables against what they replace.");
  app.add_option("--rows", options.rows, "only these, such as E1,E5")
      ->delimiter(',');
  app.add_option("--rounds", options.rounds, "of each row")
      ->check(CLI::Range(1, 100000));
  app.add_option("--seed", options.seed, "of keys and intervals");
  app.add_option("--json", json, "file for the results");
  app.add_option("--commit", commit, "what is measured, for the results");
  app.add_flag("--quick", options.quick,
               "only see whether it works: small and without verdicts");
  CLI11_PARSE(app, argc, argv);
  if (options.quick) options.rounds = std::min(options.rounds, 3);

  PinToCpu(0);
  Facts facts = MachineFacts();
  const int64_t stolen = StolenMs();
  const int64_t switches = InvoluntarySwitches();
  const Timer timer;
  Harness harness(options);
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
  if (harness.results().empty()) {
    std::fputs("tdp_bench: no such row\n", stderr);
    return 2;
  }

  facts.emplace_back("commit", commit.empty() ? "unknown" : commit);
  facts.emplace_back("lock hooks", test_hooks::kSeesLocks ? "yes" : "no");
  facts.emplace_back("seed", absl::StrCat(options.seed));
  facts.emplace_back("quick", options.quick ? "yes" : "no");
  facts.emplace_back("seconds",
                     absl::StrCat(static_cast<int64_t>(timer.ns() / 1e9)));
  facts.emplace_back("stolen_ms", absl::StrCat(StolenMs() - stolen));
  facts.emplace_back("involuntary_switches",
                     absl::StrCat(InvoluntarySwitches() - switches));
  std::fputs(ToTable(facts, harness.results()).c_str(), stdout);
  if (!json.empty()) {
    std::ofstream file(json);
    file << ToJson(facts, harness.results());
    if (!file.flush()) {
      std::fprintf(stderr, "tdp_bench: cannot write %s\n", json.c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace tdp::bench

int main(int argc, char** argv) { return tdp::bench::Main(argc, argv); }
