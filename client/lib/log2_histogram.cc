#include "client/lib/log2_histogram.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace tdp::client {

std::string QuantileText(absl::Span<const int64_t> counts, int percent) {
  const int64_t total =
      std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (total <= 0) return "";
  // Rounded up: the quantile is a value that was counted.
  const int64_t rank = std::max<int64_t>(
      1, total / 100 * percent + (total % 100 * percent + 99) / 100);
  int64_t seen = 0;
  size_t bucket = 0;
  while (bucket < counts.size()) {
    seen += counts[bucket];
    if (seen >= rank) break;
    ++bucket;
  }
  return absl::StrCat(uint64_t{1} << std::min<size_t>(bucket, 63), " us");
}

}  // namespace tdp::client
