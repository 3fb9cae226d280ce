#include "engine/bench/machine.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/sync/rcu.h"

namespace tdp::bench {
namespace {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return "unknown";
  return std::string(absl::StripAsciiWhitespace(line));
}

std::string CpuModel() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!absl::StartsWith(line, "model name")) continue;
    const std::vector<std::string> parts = absl::StrSplit(line, ": ");
    return parts.back();
  }
  return "unknown";
}

std::string CacheSizes() {
  std::string sizes;
  for (int i = 0; i < 4; ++i) {
    const std::string folder =
        absl::StrCat("/sys/devices/system/cpu/cpu0/cache/index", i, "/");
    if (i == 1) continue;  // instructions
    absl::StrAppend(&sizes, sizes.empty() ? "" : ", ", "L",
                    FirstLine(folder + "level"), " ",
                    FirstLine(folder + "size"));
  }
  return sizes;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> MachineFacts() {
  utsname kernel = {};
  uname(&kernel);
  const std::string thp = "/sys/kernel/mm/transparent_hugepage/enabled";
#ifdef NDEBUG
  const char* const mode = "optimised, without debug checks";
#else
  const char* const mode = "with debug checks: figures mean nothing";
#endif
  return {
      {"date", absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(),
                                absl::UTCTimeZone())},
      {"cpu", CpuModel()},
      {"cpus", absl::StrCat(std::thread::hardware_concurrency())},
      {"caches", CacheSizes()},
      {"kernel", kernel.release},
      {"clocksource", FirstLine("/sys/devices/system/clocksource/clocksource0/"
                                "current_clocksource")},
      {"transparent_hugepages", FirstLine(thp)},
      {"membarrier", RcuDomain::UsesMembarrier() ? "yes" : "no"},
      {"load_average", FirstLine("/proc/loadavg")},
      {"compiler", __VERSION__},
      {"build", mode},
  };
}

int64_t StolenMs() {
  const std::vector<std::string> fields =
      absl::StrSplit(FirstLine("/proc/stat"), ' ', absl::SkipEmpty());
  int64_t ticks = 0;
  // cpu user nice system idle iowait irq softirq steal
  if (fields.size() < 9 || !absl::SimpleAtoi(fields[8], &ticks)) return 0;
  return ticks * 1000 / sysconf(_SC_CLK_TCK);
}

int64_t InvoluntarySwitches() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  file >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

bool InHugePages(const void* address) {
  const auto wanted = reinterpret_cast<uint64_t>(address);
  std::ifstream file("/proc/self/smaps");
  std::string line;
  bool inside = false;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string first;
    words >> first;
    uint64_t start = 0;
    uint64_t end = 0;
    const std::pair<std::string, std::string> bounds =
        absl::StrSplit(first, absl::MaxSplits('-', 1));
    if (absl::SimpleHexAtoi(bounds.first, &start) &&
        absl::SimpleHexAtoi(bounds.second, &end)) {
      inside = start <= wanted && wanted < end;
    } else if (inside && first == "AnonHugePages:") {
      int64_t kib = 0;
      words >> kib;
      return kib > 0;
    }
  }
  return false;
}

void PinToCpu(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  // Refused where there is no such CPU: the figures then say so themselves.
  (void)sched_setaffinity(0, sizeof(set), &set);
}

}  // namespace tdp::bench
