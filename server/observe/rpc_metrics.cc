#include "server/observe/rpc_metrics.h"

#include <map>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "server/observe/metric_family.h"
#include "server/rpc/call_context.h"

namespace tdp::server {
namespace {

// "VmService.GetVm" to "VmService" and "GetVm". What no service has is one
// method, whatever it is called.
std::pair<std::string, std::string> SplitName(const std::string& name) {
  const size_t dot = name.find('.');
  if (dot == std::string::npos) return {"unknown", "unknown"};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

void AddTo(std::atomic<int64_t>& number, int64_t delta, bool shared) {
  // Relaxed: a statistic orders nothing.
  if (shared) [[unlikely]] {
    number.fetch_add(delta, std::memory_order_relaxed);
  } else {
    number.store(number.load(std::memory_order_relaxed) + delta,
                 std::memory_order_relaxed);
  }
}

}  // namespace

RpcMetrics::~RpcMetrics() {
  for (std::atomic<Block*>& block : blocks_) delete[] block.load();
}

void RpcMetrics::SetMethods(const std::vector<MethodTraits>& traits) {
  std::map<std::pair<std::string, std::string>, size_t> known;
  for (const MethodTraits& method : traits) {
    const auto name = SplitName(method.name);
    const auto [it, is_new] = known.try_emplace(name, names_.size());
    if (is_new) names_.push_back(name);
    slots_.push_back(it->second);
  }
}

absl::Status RpcMetrics::Enter(grpc::ServerContext&, CallContext& context) {
  const auto [counters, shared] = CountersOf(context);
  if (counters != nullptr) AddTo(counters->started, 1, shared);
  return absl::OkStatus();
}

void RpcMetrics::Leave(CallContext& context, absl::StatusCode code) {
  const auto [counters, shared] = CountersOf(context);
  if (counters == nullptr) return;
  // The clock may be set back.
  const int64_t nanos = std::max<int64_t>(
      0, absl::ToInt64Nanoseconds(absl::Now() - context.start_time()));
  AddTo(counters->sum_nanos, nanos, shared);
  AddTo(counters->buckets[static_cast<size_t>(CallBucketOf(nanos))], 1, shared);
  AddTo(counters->handled[CodeIndex(code)], 1, shared);
}

std::pair<RpcMetrics::MethodCounters*, bool> RpcMetrics::CountersOf(
    const CallContext& context) {
  const size_t index = static_cast<size_t>(context.method().index);
  if (index >= slots_.size()) return {nullptr, false};
  const size_t shard = CounterShard::OfThread();
  Block* block = blocks_[shard].load(std::memory_order_acquire);
  if (block == nullptr) [[unlikely]]
    block = AddBlock(shard);
  return {&block[slots_[index]], shard == CounterShard::kShared};
}

RpcMetrics::Block* RpcMetrics::AddBlock(size_t shard) {
  Block* const block = new Block[names_.size()];
  Block* other = nullptr;
  if (blocks_[shard].compare_exchange_strong(other, block)) return block;
  delete[] block;
  return other;
}

RpcMetrics::Totals RpcMetrics::Read(size_t slot) const {
  Totals totals;
  const auto relaxed = std::memory_order_relaxed;
  for (const std::atomic<Block*>& of_shard : blocks_) {
    const Block* const block = of_shard.load(std::memory_order_acquire);
    if (block == nullptr) continue;
    const MethodCounters& counters = block[slot];
    totals.sum_nanos += counters.sum_nanos.load(relaxed);
    for (size_t i = 0; i < kCodeCount; ++i) {
      totals.handled[i] += counters.handled[i].load(relaxed);
    }
    for (size_t i = 0; i < totals.buckets.size(); ++i) {
      totals.buckets[i] += counters.buckets[i].load(relaxed);
    }
  }
  // Last: a call that is seen to have ended is seen to have started.
  for (const std::atomic<Block*>& of_shard : blocks_) {
    const Block* const block = of_shard.load(std::memory_order_acquire);
    if (block != nullptr) totals.started += block[slot].started.load(relaxed);
  }
  return totals;
}

void RpcMetrics::Collect(
    std::vector<prometheus::MetricFamily>& families) const {
  auto started = FamilyBuilder::Counter("tdpd_rpc_started_total",
                                        "Calls that came in, by method.");
  auto handled = FamilyBuilder::Counter(
      "tdpd_rpc_handled_total", "Calls that ended, by method and code.");
  auto in_flight = FamilyBuilder::Gauge("tdpd_rpc_in_flight",
                                        "Calls that are under way, by method.");
  auto duration = FamilyBuilder::Histogram(
      "tdpd_rpc_duration_seconds",
      "Time from when a call came in until gRPC took its status, by method. "
      "A stream counts once, when it ends.");
  for (size_t slot = 0; slot < names_.size(); ++slot) {
    const Totals totals = Read(slot);
    const MetricLabels labels = {{"service", names_[slot].first},
                                 {"method", names_[slot].second}};
    int64_t ended = 0;
    for (size_t i = 0; i < kCodeCount; ++i) {
      ended += totals.handled[i];
      // Rates need a zero to start from; so do error ratios, but a series for
      // each code that never comes would be most of the scrape.
      if (i != 0 && totals.handled[i] == 0) continue;
      MetricLabels with_code = labels;
      with_code.push_back({"code", std::string(kCodeNames[i])});
      handled.Add(std::move(with_code), static_cast<double>(totals.handled[i]));
    }
    started.Add(labels, static_cast<double>(totals.started));
    in_flight.Add(labels, static_cast<double>(
                              std::max<int64_t>(0, totals.started - ended)));
    duration.Add(labels,
                 ToHistogram(totals.buckets, kFirstCallBucketLog2Us,
                             static_cast<double>(totals.sum_nanos) * 1e-9));
  }
  started.MoveTo(families);
  handled.MoveTo(families);
  in_flight.MoveTo(families);
  duration.MoveTo(families);
}

}  // namespace tdp::server
