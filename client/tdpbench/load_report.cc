#include "client/tdpbench/load_report.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/lib/table.h"

namespace tdp::client {
namespace {

constexpr int kPlotColumns = 50;

double Us(absl::Duration duration) {
  return absl::ToDoubleMicroseconds(duration);
}

std::string UsText(absl::Duration duration) {
  return absl::StrFormat("%.1f", Us(duration));
}

// CPU of one call.
std::string CpuText(std::optional<absl::Duration> cpu, int64_t calls) {
  if (!cpu.has_value()) return "n/a";
  if (calls == 0) return absl::StrFormat("%.2f s", absl::ToDoubleSeconds(*cpu));
  return absl::StrFormat("%.2f s, %.1f us a call", absl::ToDoubleSeconds(*cpu),
                         Us(*cpu) / static_cast<double>(calls));
}

void AddRow(const std::string& name, const Histogram& histogram, Table& table) {
  table.AddRow(
      {name, absl::StrCat(histogram.count()), UsText(histogram.Percentile(0.5)),
       UsText(histogram.Percentile(0.9)), UsText(histogram.Percentile(0.99)),
       UsText(histogram.Percentile(0.999)), UsText(histogram.max())});
}

// A bar for each power of two of microseconds, from the first that has calls to
// the last.
void PrintPlot(const Histogram& histogram, std::ostream& out) {
  if (histogram.count() == 0) return;
  std::vector<int64_t> counts;
  size_t first = 0;
  const auto last = static_cast<size_t>(std::bit_width(
      static_cast<uint64_t>(absl::ToInt64Microseconds(histogram.max()))));
  for (size_t i = 0; i <= last; ++i) {
    counts.push_back(histogram.CountBetween(
        i == 0 ? absl::ZeroDuration() : absl::Microseconds(1ll << (i - 1)),
        absl::Microseconds(1ll << i)));
    if (counts[i] == 0 && first == i) ++first;
  }
  const int64_t most = *std::max_element(counts.begin(), counts.end());
  out << "\nlatency from the intended start\n";
  for (size_t i = first; i <= last; ++i) {
    // What is there at all is seen.
    const int64_t columns =
        (counts[i] * kPlotColumns + most - 1) / std::max<int64_t>(most, 1);
    out << absl::StrFormat("< %9d us  %-*s %d\n", 1ll << i, kPlotColumns,
                           std::string(static_cast<size_t>(columns), '#'),
                           counts[i]);
  }
}

std::string JsonOf(const Histogram& histogram) {
  return absl::StrFormat(
      "{\"count\":%d,\"p50Us\":%.3f,\"p90Us\":%.3f,\"p99Us\":%.3f,"
      "\"p999Us\":%.3f,\"maxUs\":%.3f}",
      histogram.count(), Us(histogram.Percentile(0.5)),
      Us(histogram.Percentile(0.9)), Us(histogram.Percentile(0.99)),
      Us(histogram.Percentile(0.999)), Us(histogram.max()));
}

}  // namespace

int64_t LoadReport::ok_count() const { return Total().count(); }

int64_t LoadReport::error_count() const {
  return std::accumulate(
      errors.begin(), errors.end(), missed_count,
      [](int64_t sum, const auto& error) { return sum + error.second; });
}

double LoadReport::OkPerSecond() const {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return seconds > 0 ? static_cast<double>(ok_in_time_count) / seconds : 0;
}

double LoadReport::ErrorRate() const {
  const int64_t all = ok_count() + error_count();
  return all == 0
             ? 0
             : static_cast<double>(error_count()) / static_cast<double>(all);
}

Histogram LoadReport::Total() const {
  Histogram total;
  for (const auto& [operation, one] : operations) {
    total.Merge(one.from_intended);
  }
  return total;
}

void PrintText(const LoadReport& report, std::ostream& out) {
  const Histogram total = report.Total();
  Table table({{"operation"},
               {"answered", Align::kRight},
               {"p50 us", Align::kRight},
               {"p90 us", Align::kRight},
               {"p99 us", Align::kRight},
               {"p99.9 us", Align::kRight},
               {"max us", Align::kRight}});
  for (const auto& [operation, one] : report.operations) {
    AddRow(OperationName(operation), one.from_intended, table);
  }
  if (report.operations.size() > 1) AddRow("(all)", total, table);
  Histogram actual;
  for (const auto& [operation, one] : report.operations) {
    actual.Merge(one.from_actual);
  }
  AddRow("(from actual start)", actual, table);
  table.Flush(out);

  out << absl::StrFormat("\nrate        %.0f answered a second, for %.1f s\n",
                         report.OkPerSecond(),
                         absl::ToDoubleSeconds(report.elapsed));
  out << absl::StrFormat("errors      %d (%.2f %%)", report.error_count(),
                         100 * report.ErrorRate());
  for (const auto& [code, count] : report.errors) {
    out << ", " << absl::StatusCodeToString(code) << " " << count;
  }
  if (report.missed_count > 0) {
    out << ", never sent for want of room " << report.missed_count;
  }
  out << "\nclient CPU  " << CpuText(report.client_cpu, total.count())
      << "\ndaemon CPU  " << CpuText(report.daemon_cpu, total.count()) << "\n";
  PrintPlot(total, out);
}

std::string ToJson(const LoadReport& report) {
  std::vector<std::string> operations;
  for (const auto& [operation, one] : report.operations) {
    operations.push_back(
        absl::StrFormat("\"%s\":{\"fromIntended\":%s,\"fromActual\":%s}",
                        OperationName(operation), JsonOf(one.from_intended),
                        JsonOf(one.from_actual)));
  }
  std::vector<std::string> errors;
  for (const auto& [code, count] : report.errors) {
    errors.push_back(
        absl::StrFormat("\"%s\":%d", absl::StatusCodeToString(code), count));
  }
  return absl::StrFormat(
      "{\"elapsedSeconds\":%.3f,\"okCount\":%d,\"okPerSecond\":%.1f,"
      "\"errorCount\":%d,\"errorRate\":%.6f,\"missedCount\":%d,"
      "\"errors\":{%s},\"clientCpuSeconds\":%.3f,\"daemonCpuSeconds\":%s,"
      "\"total\":%s,\"operations\":{%s}}\n",
      absl::ToDoubleSeconds(report.elapsed), report.ok_count(),
      report.OkPerSecond(), report.error_count(), report.ErrorRate(),
      report.missed_count, absl::StrJoin(errors, ","),
      absl::ToDoubleSeconds(report.client_cpu),
      report.daemon_cpu.has_value()
          ? absl::StrFormat("%.3f", absl::ToDoubleSeconds(*report.daemon_cpu))
          : "null",
      JsonOf(report.Total()), absl::StrJoin(operations, ","));
}

}  // namespace tdp::client
