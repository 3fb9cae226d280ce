// Histogram: how often each latency was seen, to three significant digits and
// in memory that does not grow, after Gil Tene's HdrHistogram.
//
// Values below 2048 ns have a bucket each; above, each power of two has 1024.
//
// Thread safety: one thread at a time.

#ifndef CLIENT_TDPBENCH_HISTOGRAM_H_
#define CLIENT_TDPBENCH_HISTOGRAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace tdp::client {

class Histogram {
 public:
  // Longer ones count as this.
  static constexpr absl::Duration kMax = absl::Minutes(15);

  Histogram();

  void Add(absl::Duration latency);
  void Merge(const Histogram& other);

  int64_t count() const { return count_; }
  // Exact; zero if there is none.
  absl::Duration max() const { return max_; }
  // The smallest latency that `fraction` of all do not exceed, or up to 0.1 %
  // more; zero if there is none.
  absl::Duration Percentile(double fraction) const;
  // How many are in [low, high), to the same precision.
  int64_t CountBetween(absl::Duration low, absl::Duration high) const;

 private:
  static size_t BucketOf(int64_t ns);
  static int64_t HighestOf(size_t bucket);

  std::vector<int64_t> counts_;
  int64_t count_ = 0;
  absl::Duration max_;
};

}  // namespace tdp::client

#endif  // CLIENT_TDPBENCH_HISTOGRAM_H_
