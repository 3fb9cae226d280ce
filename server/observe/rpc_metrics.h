// RpcMetrics: rate, errors and duration of every method, as a gate.
//
// A thread counts in a block of memory of its own (engine/base's
// CounterShard): a call costs a few loads and stores and two readings of the
// clock. Blocks are added up when somebody scrapes.
//
// Thread safety: SetMethods() once, before the first call; the others from any
// thread.

#ifndef SERVER_OBSERVE_RPC_METRICS_H_
#define SERVER_OBSERVE_RPC_METRICS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/sharded_counters.h"
#include "server/observe/code_names.h"
#include "server/observe/log2_histogram.h"
#include "server/observe/metric_source.h"
#include "server/rpc/call_gate.h"
#include "server/rpc/method_traits.h"

namespace tdp::server {

class RpcMetrics final : public CallGate, public MetricSource {
 public:
  RpcMetrics() = default;
  RpcMetrics(const RpcMetrics&) = delete;
  RpcMetrics& operator=(const RpcMetrics&) = delete;
  ~RpcMetrics() override;

  // What is served; traits[i].index is i. Methods of one name, as two versions
  // of a service have, are one here.
  void SetMethods(const std::vector<MethodTraits>& traits);

  absl::Status Enter(grpc::ServerContext& transport,
                     CallContext& context) override;
  void Leave(CallContext& context, absl::StatusCode code) override;
  void Collect(std::vector<prometheus::MetricFamily>& families) const override;

 private:
  using Number = std::atomic<int64_t>;

  struct MethodCounters {
    Number started{0};
    Number sum_nanos{0};
    std::array<Number, kCodeCount> handled{};
    std::array<Number, kCallBucketCount> buckets{};
  };
  // Of a shard: one for each label pair.
  using Block = MethodCounters;

  struct Totals {
    int64_t started = 0;
    int64_t sum_nanos = 0;
    std::array<int64_t, kCodeCount> handled{};
    std::array<int64_t, kCallBucketCount> buckets{};
  };

  // The calling thread's counters of a method, and whether it shares them.
  std::pair<MethodCounters*, bool> CountersOf(const CallContext& context);
  Block* AddBlock(size_t shard);
  Totals Read(size_t slot) const;

  // Constant once SetMethods() has returned.
  std::vector<size_t> slots_;                               // by method index
  std::vector<std::pair<std::string, std::string>> names_;  // by slot
  // Set once each, by the first thread that counts there.
  std::array<std::atomic<Block*>, CounterShard::kCount> blocks_{};
};

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_RPC_METRICS_H_
