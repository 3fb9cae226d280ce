// VmMetrics: the engine's numbers, of each VM that exists and of all.
//
// At most limits::kMaxVms VMs exist at a time: that bounds the series.
//
// Thread safety: any thread.

#ifndef SERVER_OBSERVE_VM_METRICS_H_
#define SERVER_OBSERVE_VM_METRICS_H_

#include <string>
#include <vector>

#include "engine/vm/vm_registry.h"
#include "server/observe/metric_source.h"

namespace tdp::server {

class VmMetrics final : public MetricSource {
 public:
  // `registry` outlives the last scrape.
  explicit VmMetrics(const VmRegistry& registry) : registry_(registry) {}

  void Collect(std::vector<prometheus::MetricFamily>& families) const override;

 private:
  const VmRegistry& registry_;
};

// "running" for kRunning.
const char* NameOf(VmState state);

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_VM_METRICS_H_
