// WorkBucket: work at a rate. It is paid for afterwards, because nobody knows
// before how much it will be; whoever is in debt has to wait.
//
// All it holds is the time at which the work so far will be paid for, if it is
// paid for at the rate: a bucket that is never filled needs no lock.
//
// Times are nanoseconds of a monotonic clock.
//
// Thread safety: all methods, from any thread.
//
// Invariants: nobody has to wait for longer than it takes to save up a burst.

#ifndef SERVER_OVERLOAD_WORK_BUCKET_H_
#define SERVER_OVERLOAD_WORK_BUCKET_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace tdp::server {

class WorkBucket {
 public:
  // `rate` units a second are free, and those of `burst_seconds` at once.
  WorkBucket(int64_t rate, int64_t burst_seconds)
      : nanoseconds_per_unit_(kNanosecondsPerSecond /
                              static_cast<double>(rate)),
        burst_(burst_seconds * static_cast<int64_t>(kNanosecondsPerSecond)) {}

  // Less than no work is none.
  void Take(int64_t now, int64_t units) {
    if (units <= 0) return;
    const auto cost = static_cast<int64_t>(
        std::min(static_cast<double>(units) * nanoseconds_per_unit_ + 0.5,
                 static_cast<double>(2 * burst_)));
    int64_t old = paid_at_.load(std::memory_order_relaxed);
    int64_t next;
    do {
      next =
          std::max(old, std::min(std::max(old, now) + cost, now + 2 * burst_));
    } while (
        !paid_at_.compare_exchange_weak(old, next, std::memory_order_relaxed));
  }

  // How long until it is out of debt; zero if it is in none.
  absl::Duration Delay(int64_t now) const {
    return absl::Nanoseconds(std::max(
        paid_at_.load(std::memory_order_relaxed) - burst_ - now, int64_t{0}));
  }
  // It can take a whole burst.
  bool full(int64_t now) const {
    return paid_at_.load(std::memory_order_relaxed) <= now;
  }

 private:
  static constexpr double kNanosecondsPerSecond = 1e9;

  const double nanoseconds_per_unit_;
  const int64_t burst_;
  std::atomic<int64_t> paid_at_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_OVERLOAD_WORK_BUCKET_H_
