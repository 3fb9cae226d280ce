#include "client/tdpbench/schedule.h"

#include <algorithm>
#include <cmath>

namespace tdp::client {

absl::Time Schedule::TimeOf(int64_t call) const {
  // Not a sum of intervals, whose errors would add up.
  return start_ + absl::Seconds(static_cast<double>(call) / rate_);
}

std::optional<absl::Time> Schedule::TakeDue(absl::Time now) {
  if (rate_ == 0) return now < end_ ? std::optional(now) : std::nullopt;
  const absl::Time time = TimeOf(taken_);
  if (time > now || time >= end_) return std::nullopt;
  ++taken_;
  return time;
}

absl::Time Schedule::NextTime(absl::Time now) const {
  if (rate_ == 0) return std::min(now, end_);
  return std::min(TimeOf(taken_), end_);
}

int64_t Schedule::MissedCount() const {
  if (rate_ == 0) return 0;
  const auto all = static_cast<int64_t>(
      std::ceil(absl::ToDoubleSeconds(end_ - start_) * rate_ - 1e-6));
  return std::max<int64_t>(all - taken_, 0);
}

}  // namespace tdp::client
