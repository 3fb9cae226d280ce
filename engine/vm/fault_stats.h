// FaultStats: faults by outcome, with how long each took, from the moment its
// event was read to its answer.
//
// Thread safety: all methods, from any thread.

#ifndef ENGINE_VM_FAULT_STATS_H_
#define ENGINE_VM_FAULT_STATS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "engine/vm/vm_types.h"

namespace tdp {

enum class FaultKind {
  kFixed,
  kSpurious,
  kRetry,
  kWriteProtected,
  kUnbacked,
  kSourceError,
  kWaiting,
  kCount,
};

class FaultStats {
 public:
  void Record(FaultKind kind, absl::Duration latency) {
    Outcome& outcome = outcomes_[static_cast<size_t>(kind)];
    const uint64_t us =
        static_cast<uint64_t>(absl::ToInt64Microseconds(latency));
    const int bucket =
        us <= 1
            ? 0
            : std::min(static_cast<int>(std::bit_width(us - 1)), kBuckets - 1);
    // Relaxed: statistics.
    outcome.count.fetch_add(1, std::memory_order_relaxed);
    outcome.buckets[static_cast<size_t>(bucket)].fetch_add(
        1, std::memory_order_relaxed);
  }

  int64_t Count(FaultKind kind) const {
    return outcomes_[static_cast<size_t>(kind)].count.load(
        std::memory_order_relaxed);
  }

  // Every outcome, in the order of FaultKind.
  std::vector<FaultOutcomeStats> Read() const {
    static constexpr std::array<const char*, kKinds> kNames = {
        "fixed",    "spurious",     "retry",  "write_protected",
        "unbacked", "source_error", "waiting"};
    std::vector<FaultOutcomeStats> out;
    for (size_t i = 0; i < kKinds; ++i) {
      FaultOutcomeStats stats{
          .outcome = kNames[i],
          .fault_count = outcomes_[i].count.load(std::memory_order_relaxed),
          .latency_us_log2_counts = {}};
      for (const std::atomic<int64_t>& bucket : outcomes_[i].buckets) {
        stats.latency_us_log2_counts.push_back(
            bucket.load(std::memory_order_relaxed));
      }
      out.push_back(std::move(stats));
    }
    return out;
  }

 private:
  static constexpr size_t kKinds = static_cast<size_t>(FaultKind::kCount);
  static constexpr int kBuckets = 24;  // the last one: over 4 seconds

  struct alignas(128) Outcome {
    std::atomic<int64_t> count{0};
    std::array<std::atomic<int64_t>, kBuckets> buckets{};
  };

  std::array<Outcome, kKinds> outcomes_;
};

}  // namespace tdp

#endif  // ENGINE_VM_FAULT_STATS_H_
