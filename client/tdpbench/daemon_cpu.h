// CPU time of the daemon behind a Unix socket, as the kernel tells it.
//
// Thread safety: any thread.

#ifndef CLIENT_TDPBENCH_DAEMON_CPU_H_
#define CLIENT_TDPBENCH_DAEMON_CPU_H_

#include <optional>
#include <string>

#include "absl/time/time.h"
#include "client/lib/target.h"

namespace tdp::client {

class DaemonCpu {
 public:
  // Asks the socket who listens. Of a target that is no Unix socket, or of
  // another machine's process, nothing is known.
  explicit DaemonCpu(const Target& target);

  // What the daemon has used so far, to the kernel's 10 ms.
  std::optional<absl::Duration> Now() const;

 private:
  int pid_ = 0;
};

// User and system time in the content of /proc/PID/stat.
std::optional<absl::Duration> CpuInStat(const std::string& stat,
                                        int64_t ticks_per_second);

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_DAEMON_CPU_H_
