// What the page's charts need besides the statistics of a VM: how long calls
// took, from the same counters as /metrics.
//
// Thread safety: free function; any thread.

#ifndef SERVER_WEB_CHARTS_H_
#define SERVER_WEB_CHARTS_H_

#include <string>

#include "server/observe/metric_source.h"

namespace tdp::server {

// {"upperBoundsSeconds":[...],"methods":[{"service":"VmService","method":
// "GetVm","count":"3","sumSeconds":0.0004,"cumulativeCounts":["1",...]}]}, of
// the methods that were called. The last count is of all calls, however long;
// it has no upper bound. `calls` is what RpcMetrics collects.
std::string RpcChartsJson(const MetricSource& calls);

}  // namespace tdp::server

#endif  // SERVER_WEB_CHARTS_H_
