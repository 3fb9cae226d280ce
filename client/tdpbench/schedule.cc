#include "client/tdpbench/schedule.h"

#include <algorithm>
#include <cmath>

namespace tdp::client {

SteadyTime Schedule::TimeOf(int64_t call) const {
  // Not a sum of intervals, whose errors would add up.
  const std::chrono::duration<double> since(static_cast<double>(call) / rate_);
  return start_ + std::chrono::round<SteadyTime::duration>(since);
}

std::optional<SteadyTime> Schedule::TakeDue(SteadyTime now) {
  if (rate_ == 0) return now < end_ ? std::optional(now) : std::nullopt;
  const SteadyTime time = TimeOf(taken_);
  if (time > now || time >= end_) return std::nullopt;
  ++taken_;
  return time;
}

SteadyTime Schedule::NextTime(SteadyTime now) const {
  if (rate_ == 0) return std::min(now, end_);
  return std::min(TimeOf(taken_), end_);
}

int64_t Schedule::MissedCount() const {
  if (rate_ == 0) return 0;
  const auto all = static_cast<int64_t>(std::ceil(
      std::chrono::duration<double>(end_ - start_).count() * rate_ - 1e-6));
  return std::max<int64_t>(all - taken_, 0);
}

}  // namespace tdp::client
