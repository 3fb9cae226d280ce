// The statistics behind a row: medians, bootstrap intervals and verdicts.
//
// Thread safety: pure functions.

#ifndef ENGINE_BENCH_STATS_H_
#define ENGINE_BENCH_STATS_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tdp::bench {

// Of a copy, by linear interpolation. `fraction` is in [0, 1].
// REQUIRES: not empty.
double Percentile(absl::Span<const double> values, double fraction);
inline double Median(absl::Span<const double> values) {
  return Percentile(values, 0.5);
}

struct Interval {
  double low = 0;
  double high = 0;
};

// The 95 % bootstrap interval of the median. The same seed gives the same
// interval. REQUIRES: not empty.
Interval BootstrapMedian(absl::Span<const double> values, uint64_t seed);

enum class Verdict { kPass, kFail, kInconclusive, kInfo };
absl::string_view VerdictName(Verdict verdict);

// A ratio is good if it is at most its target (a cost) or at least (a gain).
enum class Better { kAtMost, kAtLeast };

// An interval that is wider than this to either side of its median says
// nothing.
inline constexpr double kMaxHalfWidth = 0.15;
// More rounds dropped than this, and those that are left are a selection.
inline constexpr double kMaxDroppedFraction = 0.25;

// Passes or fails only if the whole interval does.
Verdict JudgeRatio(double median, Interval interval, double target,
                   Better better);
// For what is counted, not sampled.
Verdict JudgeValue(double value, double target, Better better);

}  // namespace tdp::bench

#endif  // ENGINE_BENCH_STATS_H_
