// ProcessMetrics: what the daemon's process takes, under the names that
// Prometheus' own clients use, and what was built.
//
// Thread safety: any thread.

#ifndef SERVER_OBSERVE_PROCESS_METRICS_H_
#define SERVER_OBSERVE_PROCESS_METRICS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "server/observe/metric_source.h"

namespace tdp::server {

struct ProcessUsage {
  double cpu_seconds = 0;
  double start_time_seconds = 0;  // since 1970
  int64_t resident_bytes = 0;
  int64_t virtual_bytes = 0;
  int64_t open_fds = 0;
  int64_t max_fds = 0;
  int64_t threads = 0;
};

// What /proc says; zeros for what it does not say.
ProcessUsage ReadProcessUsage();

class ProcessMetrics final : public MetricSource {
 public:
  // `hypervisor`: "kvm" or "software".
  explicit ProcessMetrics(std::string hypervisor)
      : hypervisor_(std::move(hypervisor)) {}

  void Collect(std::vector<prometheus::MetricFamily>& families) const override;

 private:
  const std::string hypervisor_;
};

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_PROCESS_METRICS_H_
