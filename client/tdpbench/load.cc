#include "client/tdpbench/load.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace tdp::client {
namespace {

struct WorkerResult {
  std::vector<absl::Duration> latencies;
  int64_t error_count = 0;
  absl::Status first_error;
};

// The smallest latency that `share` of the calls do not exceed.
absl::Duration Percentile(const std::vector<absl::Duration>& sorted,
                          double share) {
  if (sorted.empty()) return absl::ZeroDuration();
  const auto rank =
      static_cast<size_t>(share * static_cast<double>(sorted.size()));
  return sorted[std::min(rank, sorted.size() - 1)];
}

double Microseconds(absl::Duration duration) {
  return absl::ToDoubleMicroseconds(duration);
}

}  // namespace

LoadReport RunLoad(const LoadOptions& options,
                   absl::FunctionRef<absl::Status(int, int64_t)> call) {
  const absl::Time begin = absl::Now() + options.warm_up;
  const absl::Time end = begin + options.duration;
  std::vector<WorkerResult> results(
      static_cast<size_t>(std::max(options.worker_count, 1)));
  std::vector<std::thread> workers;
  for (size_t w = 0; w < results.size(); ++w) {
    workers.emplace_back([&, w] {
      WorkerResult& result = results[w];
      int64_t measured_count = 0;
      for (int64_t n = 0;; ++n) {
        const absl::Time start = absl::Now();
        if (start >= end && measured_count > 0) return;
        const absl::Status status = call(static_cast<int>(w), n);
        if (start < begin) continue;
        ++measured_count;
        if (status.ok()) {
          result.latencies.push_back(absl::Now() - start);
        } else if (++result.error_count == 1) {
          result.first_error = status;
        }
      }
    });
  }
  for (std::thread& worker : workers) worker.join();

  LoadReport report;
  report.elapsed = absl::Now() - begin;
  std::vector<absl::Duration> latencies;
  for (const WorkerResult& result : results) {
    latencies.insert(latencies.end(), result.latencies.begin(),
                     result.latencies.end());
    report.error_count += result.error_count;
    if (report.first_error.ok()) report.first_error = result.first_error;
  }
  std::sort(latencies.begin(), latencies.end());
  report.call_count = static_cast<int64_t>(latencies.size());
  report.p50 = Percentile(latencies, 0.50);
  report.p90 = Percentile(latencies, 0.90);
  report.p99 = Percentile(latencies, 0.99);
  report.max = latencies.empty() ? absl::ZeroDuration() : latencies.back();
  return report;
}

std::string LoadText(const LoadReport& report) {
  return absl::StrFormat(
      "calls   %d in %.1f s, %.0f a second\n"
      "errors  %d\n"
      "p50     %.1f us\np90     %.1f us\np99     %.1f us\nmax     %.1f us\n",
      report.call_count, absl::ToDoubleSeconds(report.elapsed),
      report.CallsPerSecond(), report.error_count, Microseconds(report.p50),
      Microseconds(report.p90), Microseconds(report.p99),
      Microseconds(report.max));
}

std::string LoadJson(const LoadReport& report) {
  return absl::StrFormat(
      "{\"callCount\":%d,\"errorCount\":%d,\"elapsedSeconds\":%.3f,"
      "\"callsPerSecond\":%.1f,\"p50Us\":%.1f,\"p90Us\":%.1f,\"p99Us\":%.1f,"
      "\"maxUs\":%.1f}\n",
      report.call_count, report.error_count,
      absl::ToDoubleSeconds(report.elapsed), report.CallsPerSecond(),
      Microseconds(report.p50), Microseconds(report.p90),
      Microseconds(report.p99), Microseconds(report.max));
}

}  // namespace tdp::client
