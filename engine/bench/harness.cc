#include "engine/bench/harness.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"

namespace tdp::bench {
namespace {

constexpr double kMaxStolenFraction = 0.01;

}  // namespace

bool Harness::Wants(absl::string_view id) const {
  if (options_.rows.empty()) return true;
  return std::any_of(options_.rows.begin(), options_.rows.end(),
                     [&](const std::string& row) {
                       return absl::StartsWith(id, row) &&
                              (id.size() == row.size() ||
                               !absl::ascii_isdigit(
                                   static_cast<unsigned char>(id[row.size()])));
                     });
}

void Harness::Measure(const RatioRow& row, absl::string_view note) {
  if (!Wants(row.id)) return;
  Result result = RunOnce(row, options_.rounds);
  if (result.verdict == Verdict::kInconclusive && !options_.quick) {
    result = RunOnce(row, 2 * options_.rounds);
    result.rerun = true;
  }
  result.note = std::string(note);
  Keep(std::move(result));
}

Result Harness::RunOnce(const RatioRow& row, int rounds) const {
  // One round is run for nothing: caches, page faults, branch predictors.
  int64_t slice = 0;
  row.candidate(slice);
  row.baseline(slice);
  std::vector<double> ratios;
  std::vector<double> candidate_ns;
  std::vector<double> baseline_ns;
  int dropped = 0;
  const int max_dropped = rounds;
  for (int round = 0;
       static_cast<int>(ratios.size()) < rounds && dropped < max_dropped;
       ++round) {
    const Timer timer;
    const int64_t stolen = stolen_ms_();
    double candidate = 0;
    double baseline = 0;
    for (const bool candidate_first : {round % 2 == 0, round % 2 != 0}) {
      ++slice;
      if (candidate_first) candidate += row.candidate(slice) / 2;
      baseline += row.baseline(slice) / 2;
      if (!candidate_first) candidate += row.candidate(slice) / 2;
    }
    const double stolen_ns = static_cast<double>(stolen_ms_() - stolen) * 1e6;
    if (stolen_ns > kMaxStolenFraction * timer.ns()) {
      ++dropped;
      continue;
    }
    ratios.push_back(row.better == Better::kAtMost ? candidate / baseline
                                                   : baseline / candidate);
    candidate_ns.push_back(candidate);
    baseline_ns.push_back(baseline);
  }
  Result result = {.id = row.id,
                   .what = row.what,
                   .unit = "x",
                   .target = row.target,
                   .better = row.better,
                   .rounds = static_cast<int>(ratios.size()),
                   .dropped = dropped};
  if (ratios.empty()) {
    result.verdict = Verdict::kInconclusive;
    return result;
  }
  result.median = Median(ratios);
  result.interval = BootstrapMedian(ratios, options_.seed);
  result.p10 = Percentile(ratios, 0.1);
  result.p90 = Percentile(ratios, 0.9);
  result.candidate_ns = Median(candidate_ns);
  result.baseline_ns = Median(baseline_ns);
  if (row.target != 0 && !options_.quick) {
    result.verdict =
        JudgeRatio(result.median, result.interval, row.target, row.better);
    if (dropped > kMaxDroppedFraction * (dropped + result.rounds)) {
      result.verdict = Verdict::kInconclusive;
    }
  }
  return result;
}

void Harness::Record(const ValueRow& row) {
  if (!Wants(row.id)) return;
  Result result = {.id = row.id,
                   .what = row.what,
                   .unit = row.unit,
                   .median = row.value,
                   .interval = {row.value, row.value},
                   .p10 = row.value,
                   .p90 = row.value,
                   .target = row.target,
                   .better = row.better,
                   .rounds = 1,
                   .note = row.note};
  if (row.judged && !options_.quick) {
    result.verdict = JudgeValue(row.value, row.target, row.better);
    if (result.verdict == Verdict::kFail && row.noise != 0 &&
        JudgeValue(row.noise, row.target, row.better) == Verdict::kFail) {
      result.verdict = Verdict::kInconclusive;
    }
  }
  Keep(std::move(result));
}

void Harness::Keep(Result result) {
  // A row may take a minute: say at once how it went.
  absl::FPrintF(stderr, "  %-5s %10.4g %-5s %s\n", result.id, result.median,
                result.unit, VerdictName(result.verdict));
  results_.push_back(std::move(result));
}

}  // namespace tdp::bench
