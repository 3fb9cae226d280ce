#include "server/observe/line_limiter.h"

#include <utility>

namespace tdp::server {

LineLimiter::Answer LineLimiter::Ask(uint64_t peer, int64_t now) {
  absl::MutexLock lock(&mutex_);
  Lines& lines = LinesOf(peer, now);
  if (!lines.bucket.Take(1, now)) {
    ++lines.left_out;
    ++left_out_count_;
    return {};
  }
  return {.admitted = true, .left_out = std::exchange(lines.left_out, 0)};
}

int64_t LineLimiter::left_out_count() const {
  absl::MutexLock lock(&mutex_);
  return left_out_count_;
}

LineLimiter::Lines& LineLimiter::LinesOf(uint64_t peer, int64_t now) {
  const auto it = peers_.find(peer);
  if (it != peers_.end()) return it->second;
  if (peers_.size() >= kMaxPeers) {
    // A full bucket that owes no word is as good as none.
    absl::erase_if(peers_, [&](auto& entry) {
      return entry.second.bucket.IsFull(now) && entry.second.left_out == 0;
    });
  }
  if (peers_.size() >= kMaxPeers) return shared_;
  return peers_.try_emplace(peer, rate_).first->second;
}

}  // namespace tdp::server
