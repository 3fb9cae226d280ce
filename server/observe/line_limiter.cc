#include "server/observe/line_limiter.h"

#include <algorithm>
#include <utility>

namespace tdp::server {

LineLimiter::Answer LineLimiter::Ask(uint64_t peer, absl::Time now) {
  absl::MutexLock lock(&mutex_);
  Bucket& bucket = BucketOf(peer, now);
  Fill(bucket, now);
  if (bucket.tokens < 1) {
    ++bucket.left_out;
    ++left_out_count_;
    return {};
  }
  bucket.tokens -= 1;
  return {.admitted = true, .left_out = std::exchange(bucket.left_out, 0)};
}

int64_t LineLimiter::left_out_count() const {
  absl::MutexLock lock(&mutex_);
  return left_out_count_;
}

LineLimiter::Bucket& LineLimiter::BucketOf(uint64_t peer, absl::Time now) {
  const auto it = buckets_.find(peer);
  if (it != buckets_.end()) return it->second;
  if (buckets_.size() >= kMaxPeers) {
    // A full bucket that owes no word is as good as none.
    absl::erase_if(buckets_, [&](auto& entry) {
      Fill(entry.second, now);
      return entry.second.tokens >= rate_ && entry.second.left_out == 0;
    });
  }
  if (buckets_.size() >= kMaxPeers) {
    if (!std::exchange(shared_used_, true)) shared_ = {rate_, now, 0};
    return shared_;
  }
  return buckets_.try_emplace(peer, Bucket{rate_, now, 0}).first->second;
}

void LineLimiter::Fill(Bucket& bucket, absl::Time now) const {
  // The clock may be set back.
  const double seconds =
      std::max(0.0, absl::ToDoubleSeconds(now - bucket.filled));
  bucket.tokens = std::min(rate_, bucket.tokens + seconds * rate_);
  bucket.filled = now;
}

}  // namespace tdp::server
