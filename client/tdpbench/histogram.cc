#include "client/tdpbench/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tdp::client {
namespace {

// 2^10 buckets for each power of two: none is wider than 0.1 % of its values.
constexpr int kBits = 10;

}  // namespace

Histogram::Histogram()
    : counts_(BucketOf(absl::ToInt64Nanoseconds(kMax)) + 1) {}

size_t Histogram::BucketOf(int64_t ns) {
  const auto value = static_cast<uint64_t>(ns);
  const int shift =
      std::max(static_cast<int>(std::bit_width(value)) - kBits - 1, 0);
  // value >> shift is in [2^10, 2^11) unless shift is 0.
  return (static_cast<size_t>(shift) << kBits) + (value >> shift);
}

int64_t Histogram::HighestOf(size_t bucket) {
  const size_t shift =
      bucket < (size_t{2} << kBits) ? 0 : (bucket >> kBits) - 1;
  const size_t mantissa = bucket - (shift << kBits);
  return static_cast<int64_t>(((mantissa + 1) << shift) - 1);
}

void Histogram::Add(absl::Duration latency) {
  latency = std::clamp(latency, absl::ZeroDuration(), kMax);
  ++counts_[BucketOf(absl::ToInt64Nanoseconds(latency))];
  ++count_;
  max_ = std::max(max_, latency);
}

void Histogram::Merge(const Histogram& other) {
  for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

absl::Duration Histogram::Percentile(double fraction) const {
  const auto wanted = std::max<int64_t>(
      static_cast<int64_t>(std::ceil(fraction * static_cast<double>(count_))),
      1);
  int64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen >= wanted) {
      return std::min(absl::Nanoseconds(HighestOf(i)), max_);
    }
  }
  return max_;
}

int64_t Histogram::CountBetween(absl::Duration low, absl::Duration high) const {
  const auto bucket = [](absl::Duration bound) {
    return BucketOf(absl::ToInt64Nanoseconds(
        std::clamp(bound, absl::ZeroDuration(), kMax)));
  };
  const size_t end = high > kMax ? counts_.size() : bucket(high);
  int64_t count = 0;
  for (size_t i = bucket(low); i < end; ++i) count += counts_[i];
  return count;
}

}  // namespace tdp::client
