#include "server/observe/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/base/version.h"
#include "server/observe/metric_family.h"

namespace tdp::server {
namespace {

std::string ReadText(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int64_t NumberAt(const std::vector<std::string>& fields, size_t i) {
  int64_t value = 0;
  return i < fields.size() && absl::SimpleAtoi(fields[i], &value) ? value : 0;
}

// When the system started, since 1970.
double BootTimeSeconds() {
  for (absl::string_view line : absl::StrSplit(ReadText("/proc/stat"), '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words[0] == "btime") return static_cast<double>(NumberAt(words, 1));
  }
  return 0;
}

int64_t CountOpenFds() {
  std::error_code error;
  int64_t count = 0;
  std::filesystem::directory_iterator entry("/proc/self/fd", error);
  for (; !error && entry != std::filesystem::directory_iterator();
       entry.increment(error)) {
    ++count;
  }
  // Without the one that lists them.
  return count > 0 ? count - 1 : 0;
}

}  // namespace

ProcessUsage ReadProcessUsage() {
  ProcessUsage usage;
  const std::string stat = ReadText("/proc/self/stat");
  // The name, in parentheses, may hold anything.
  const size_t name_end = stat.rfind(") ");
  if (name_end != std::string::npos) {
    // From the third field on; proc(5) counts from 1.
    const std::vector<std::string> fields =
        absl::StrSplit(stat.substr(name_end + 2), ' ');
    const auto field = [&](size_t i) { return NumberAt(fields, i - 3); };
    const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    usage.cpu_seconds = static_cast<double>(field(14) + field(15)) / ticks;
    usage.threads = field(20);
    usage.start_time_seconds =
        BootTimeSeconds() + static_cast<double>(field(22)) / ticks;
    usage.virtual_bytes = field(23);
    usage.resident_bytes = field(24) * sysconf(_SC_PAGESIZE);
  }
  usage.open_fds = CountOpenFds();
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    usage.max_fds = static_cast<int64_t>(limit.rlim_cur);
  }
  return usage;
}

void ProcessMetrics::Collect(
    std::vector<prometheus::MetricFamily>& families) const {
  using F = FamilyBuilder;
  const ProcessUsage usage = ReadProcessUsage();
  F::Counter("process_cpu_seconds_total",
             "CPU time of the process, user and system.")
      .Add({}, usage.cpu_seconds)
      .MoveTo(families);
  F::Gauge("process_resident_memory_bytes", "Memory that is resident.")
      .Add({}, static_cast<double>(usage.resident_bytes))
      .MoveTo(families);
  F::Gauge("process_virtual_memory_bytes", "Address space in use.")
      .Add({}, static_cast<double>(usage.virtual_bytes))
      .MoveTo(families);
  F::Gauge("process_open_fds", "File descriptors that are open.")
      .Add({}, static_cast<double>(usage.open_fds))
      .MoveTo(families);
  F::Gauge("process_max_fds", "File descriptors that may be open.")
      .Add({}, static_cast<double>(usage.max_fds))
      .MoveTo(families);
  F::Gauge("process_threads", "Threads of the process.")
      .Add({}, static_cast<double>(usage.threads))
      .MoveTo(families);
  F::Gauge("process_start_time_seconds",
           "When the process started, since 1970.")
      .Add({}, usage.start_time_seconds)
      .MoveTo(families);
  F::Gauge("tdpd_build_info",
           "1; the labels say what runs and what VMs run on by default.")
      .Add({{"version", kVersion}, {"hypervisor", hypervisor_}}, 1)
      .MoveTo(families);
}

}  // namespace tdp::server
