// AdmissionMetrics: what stands before the methods: connections and what the
// guard did to them, denials, and what all clients have under way.
//
// Thread safety: any thread.

#ifndef SERVER_OBSERVE_ADMISSION_METRICS_H_
#define SERVER_OBSERVE_ADMISSION_METRICS_H_

#include <string>
#include <vector>

#include "server/access/access.h"
#include "server/observe/metric_source.h"
#include "server/overload/overload_gate.h"

namespace tdp::server {

class AdmissionMetrics final : public MetricSource {
 public:
  // Both outlive this. The guard is the process's.
  AdmissionMetrics(const Access& access, const OverloadGate& overload)
      : access_(access), overload_(overload) {}

  void Collect(std::vector<prometheus::MetricFamily>& families) const override;

  // The same for a person, as a section of the state dump.
  std::string Describe() const;

 private:
  const Access& access_;
  const OverloadGate& overload_;
};

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_ADMISSION_METRICS_H_
