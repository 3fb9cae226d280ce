// Program: what the benchmark programs share: flags, facts about the machine,
// the table and the file of results.
//
// Thread safety: belongs to the main thread.

#ifndef ENGINE_BENCH_PROGRAM_H_
#define ENGINE_BENCH_PROGRAM_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>

#include "engine/bench/harness.h"
#include "engine/bench/report.h"

namespace tdp::bench {

class Program {
 public:
  Program(std::string name, std::string about);

  // For flags beyond those of every program.
  CLI::App& app() { return app_; }
  // Gives the exit status if there is nothing to run.
  std::optional<int> Parse(int argc, char** argv);
  const Options& options() const { return options_; }

  // Runs the rows, which return what else there is to know, and reports.
  // Returns the exit status; verdicts do not change it.
  int Run(const std::function<Facts(Harness&)>& rows);

 private:
  const std::string name_;
  CLI::App app_;
  Options options_;
  std::string json_;
  std::string commit_;
};

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_PROGRAM_H_
