#include "engine/bench/program.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/bench/machine.h"

namespace tdp::bench {

Program::Program(std::string name, std::string about)
    : name_(std::move(name)), app_(std::move(about)) {
  app_.add_option("--rows", options_.rows, "only these, such as E1,E5")
      ->delimiter(',');
  app_.add_option("--rounds", options_.rounds, "of each row")
      ->check(CLI::Range(1, 100000));
  app_.add_option("--seed", options_.seed, "of keys and intervals");
  app_.add_option("--json", json_, "file for the results");
  app_.add_option("--commit", commit_, "what is measured, for the results");
  app_.add_flag("--quick", options_.quick,
                "only see whether it works: small and without verdicts");
}

std::optional<int> Program::Parse(int argc, char** argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app_.exit(error);
  }
  if (options_.quick) options_.rounds = std::min(options_.rounds, 3);
  return std::nullopt;
}

int Program::Run(const std::function<Facts(Harness&)>& rows) {
  Facts facts = MachineFacts();
  const int64_t stolen = StolenMs();
  const int64_t switches = InvoluntarySwitches();
  const Timer timer;
  Harness harness(options_);
  const Facts more = rows(harness);
  if (harness.results().empty()) {
    std::fprintf(stderr, "%s: no such row\n", name_.c_str());
    return 2;
  }

  facts.emplace_back("commit", commit_.empty() ? "unknown" : commit_);
  facts.insert(facts.end(), more.begin(), more.end());
  facts.emplace_back("seed", absl::StrCat(options_.seed));
  facts.emplace_back("quick", options_.quick ? "yes" : "no");
  facts.emplace_back("seconds",
                     absl::StrCat(static_cast<int64_t>(timer.ns() / 1e9)));
  facts.emplace_back("stolen_ms", absl::StrCat(StolenMs() - stolen));
  facts.emplace_back("involuntary_switches",
                     absl::StrCat(InvoluntarySwitches() - switches));
  std::fputs(ToTable(facts, harness.results()).c_str(), stdout);
  if (!json_.empty()) {
    std::ofstream file(json_);
    file << ToJson(facts, harness.results());
    if (!file.flush()) {
      std::fprintf(stderr, "%s: cannot write %s\n", name_.c_str(),
                   json_.c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace tdp::bench
