#include "server/bench/process_cpu.h"

#include <dirent.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace tdp::server::bench {
namespace {

double Read(clockid_t clock) {
  timespec time = {};
  TDP_CHECK(clock_gettime(clock, &time) == 0, "the process ended");
  return static_cast<double>(time.tv_sec) * 1e9 +
         static_cast<double>(time.tv_nsec);
}

}  // namespace

CpuMeter::CpuMeter(pid_t pid) {
  TDP_CHECK(clock_getcpuclockid(pid, &clock_) == 0, "there is no such process");
  start_ = Sum();
}

double CpuMeter::Sum() const {
  return Read(clock_) + Read(CLOCK_PROCESS_CPUTIME_ID);
}

void UseCpus(pid_t pid, Cpus cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const long count = cpus == Cpus::kOne ? 1 : sysconf(_SC_NPROCESSORS_CONF);
  for (long cpu = 0; cpu < count; ++cpu) CPU_SET(static_cast<int>(cpu), &set);
  DIR* const folder = opendir(absl::StrCat("/proc/", pid, "/task").c_str());
  TDP_CHECK(folder != nullptr, "the process ended");
  while (const dirent* entry = readdir(folder)) {
    const pid_t thread = std::atoi(entry->d_name);
    // A thread that has just ended needs no CPU.
    if (thread > 0) (void)sched_setaffinity(thread, sizeof(set), &set);
  }
  closedir(folder);
}

}  // namespace tdp::server::bench
