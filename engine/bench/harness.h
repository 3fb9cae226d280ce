// The harness: runs a candidate and a baseline in turns, judges their ratio,
// and keeps the results.
//
// A round is A B B A, the next one B A A B; both sides work on the same slice
// of keys, which is a new one in each half. A round counts unless the host
// stole more than 1 % of its time. A row that is inconclusive runs once more,
// with twice the rounds; the second result stands.
//
// Thread safety: belongs to one thread.

#ifndef ENGINE_BENCH_HARNESS_H_
#define ENGINE_BENCH_HARNESS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/bench/machine.h"
#include "engine/bench/stats.h"

namespace tdp::bench {

struct Options {
  std::vector<std::string> rows;  // empty: all
  int rounds = 40;
  // A test that the program works: little memory, few rounds, no verdicts.
  bool quick = false;
  uint64_t seed = 20240607;
};

// One side of a row: works on slice `slice` and returns nanoseconds for each
// operation. It times itself, so that what it sets up does not count.
using Side = std::function<double(int64_t slice)>;

struct RatioRow {
  std::string id;
  std::string what;
  Side candidate;
  Side baseline;
  // kAtMost: the ratio is candidate cost over baseline cost. kAtLeast: the
  // ratio is the gain, baseline cost over candidate cost.
  Better better = Better::kAtMost;
  double target = 0;  // 0: reported, not judged
};

struct ValueRow {
  std::string id;
  std::string what;
  std::string unit;
  double value = 0;
  Better better = Better::kAtMost;
  double target = 0;
  bool judged = true;
  // What the machine alone makes of it. A bad value means nothing if this is
  // as bad.
  double noise = 0;
  std::string note;
};

struct Result {
  std::string id;
  std::string what;
  std::string unit;  // "x" for a ratio
  double median = 0;
  Interval interval;
  double p10 = 0;
  double p90 = 0;
  double candidate_ns = 0;  // medians; 0 for what is counted
  double baseline_ns = 0;
  double target = 0;
  Better better = Better::kAtMost;
  Verdict verdict = Verdict::kInfo;
  int rounds = 0;
  int dropped = 0;
  bool rerun = false;
  std::string note;
};

class Harness {
 public:
  // `stolen_ms` is asked before and after each round.
  explicit Harness(Options options,
                   std::function<int64_t()> stolen_ms = StolenMs)
      : options_(std::move(options)), stolen_ms_(std::move(stolen_ms)) {}

  const Options& options() const { return options_; }
  // "E3" asks for E3 and E3b, not for E30.
  bool Wants(absl::string_view id) const;
  // Runs the row if it is asked for. `note` is shown beside its result.
  void Measure(const RatioRow& row, absl::string_view note = "");
  void Record(const ValueRow& row);

  const std::vector<Result>& results() const { return results_; }

 private:
  Result RunOnce(const RatioRow& row, int rounds) const;
  void Keep(Result result);

  const Options options_;
  const std::function<int64_t()> stolen_ms_;
  std::vector<Result> results_;
};

// Nanoseconds since it was made.
class Timer {
 public:
  double ns() const {
    return std::chrono::duration<double, std::nano>(
               std::chrono::steady_clock::now() - start_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point start_ =
      std::chrono::steady_clock::now();
};

// What was computed is used, as far as the compiler knows.
inline void Sink(uint64_t value) { asm volatile("" : : "r"(value) : "memory"); }

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_HARNESS_H_
