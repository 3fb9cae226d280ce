#include "engine/bench/stats.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

namespace tdp::bench {
namespace {

constexpr int kResamples = 2000;

// Reorders `values`.
double PercentileOf(std::vector<double>& values, double fraction) {
  assert(!values.empty());
  std::sort(values.begin(), values.end());
  const double position = fraction * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, values.size() - 1);
  const double part = position - static_cast<double>(below);
  return values[below] + part * (values[above] - values[below]);
}

}  // namespace

double Percentile(absl::Span<const double> values, double fraction) {
  std::vector<double> copy(values.begin(), values.end());
  return PercentileOf(copy, fraction);
}

Interval BootstrapMedian(absl::Span<const double> values, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> medians;
  medians.reserve(kResamples);
  std::vector<double> sample(values.size());
  for (int i = 0; i < kResamples; ++i) {
    // Not a std::uniform_int_distribution: its results differ by library.
    for (double& value : sample) value = values[random() % values.size()];
    medians.push_back(PercentileOf(sample, 0.5));
  }
  return {Percentile(medians, 0.025), Percentile(medians, 0.975)};
}

absl::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass:
      return "pass";
    case Verdict::kFail:
      return "FAIL";
    case Verdict::kInconclusive:
      return "inconclusive";
    case Verdict::kInfo:
      return "info";
  }
  return "";
}

Verdict JudgeRatio(double median, Interval interval, double target,
                   Better better) {
  const double margin = kMaxHalfWidth * std::abs(median);
  if (interval.high - median > margin || median - interval.low > margin) {
    return Verdict::kInconclusive;
  }
  const Verdict low = JudgeValue(interval.low, target, better);
  const Verdict high = JudgeValue(interval.high, target, better);
  return low == high ? low : Verdict::kInconclusive;
}

Verdict JudgeValue(double value, double target, Better better) {
  const bool good =
      better == Better::kAtMost ? value <= target : value >= target;
  return good ? Verdict::kPass : Verdict::kFail;
}

}  // namespace tdp::bench
