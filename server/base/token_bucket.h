// TokenBucket: so much at once, and so much a second.
//
// Thread safety: none.

#ifndef SERVER_BASE_TOKEN_BUCKET_H_
#define SERVER_BASE_TOKEN_BUCKET_H_

#include <algorithm>
#include <cstdint>

namespace tdp::server {

class TokenBucket {
 public:
  // Full. REQUIRES: both are positive and below 2^27.
  TokenBucket(int64_t burst, int64_t per_second)
      : burst_(burst), per_second_(per_second), tokens_(burst) {}

  // Takes `count` tokens; false, and takes none, if there are fewer. Times are
  // in nanoseconds of a clock that does not go back.
  bool Take(int64_t count, int64_t now) {
    Refill(now);
    if (tokens_ < count) return false;
    tokens_ -= count;
    return true;
  }
  bool IsFull(int64_t now) {
    Refill(now);
    return tokens_ == burst_;
  }

 private:
  static constexpr int64_t kSecond = 1000000000;

  void Refill(int64_t now) {
    if (tokens_ == burst_) {
      refilled_at_ = std::max(refilled_at_, now);
      return;
    }
    const int64_t elapsed = now - refilled_at_;
    if (elapsed <= 0) return;
    if (elapsed >= 60 * kSecond) {
      tokens_ = std::min(burst_, tokens_ + 60 * per_second_);
      refilled_at_ = now;
      return;
    }
    const int64_t earned = elapsed * per_second_ / kSecond;
    if (earned == 0) return;
    tokens_ = std::min(burst_, tokens_ + earned);
    // What is left of the elapsed time counts for the next token.
    refilled_at_ += earned * kSecond / per_second_;
  }

  const int64_t burst_;
  const int64_t per_second_;
  int64_t tokens_;
  int64_t refilled_at_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_BASE_TOKEN_BUCKET_H_
