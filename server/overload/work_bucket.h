// WorkBucket: work at a rate. It is paid for afterwards, because nobody knows
// before how much it will be; whoever is in debt has to wait.
//
// Thread safety: none; the owner's lock guards it.

#ifndef SERVER_OVERLOAD_WORK_BUCKET_H_
#define SERVER_OVERLOAD_WORK_BUCKET_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace tdp::server {

class WorkBucket {
 public:
  // Fills at `rate` tokens a second up to `burst`, and is full at first.
  WorkBucket(double rate, double burst)
      : rate_(rate), burst_(burst), tokens_(burst) {}

  // `now` before the last one changes nothing.
  void FillUntil(absl::Time now) {
    if (now <= filled_) return;
    if (filled_ != absl::InfinitePast()) {
      tokens_ = std::min(
          burst_, tokens_ + rate_ * absl::ToDoubleSeconds(now - filled_));
    }
    filled_ = now;
  }
  void Take(int64_t tokens) { tokens_ -= static_cast<double>(tokens); }

  bool full() const { return tokens_ >= burst_; }
  bool in_debt() const { return tokens_ < 0; }
  // How long until it is out of debt.
  absl::Duration Delay() const {
    return in_debt() ? absl::Seconds(-tokens_ / rate_) : absl::ZeroDuration();
  }

 private:
  const double rate_;
  const double burst_;
  double tokens_;
  absl::Time filled_ = absl::InfinitePast();
};

}  // namespace tdp::server

#endif  // SERVER_OVERLOAD_WORK_BUCKET_H_
