// LineLimiter: how many lines of the log each peer may cause.
//
// A token bucket for each peer; what does not fit is counted, and told with the
// peer's next line. Peers beyond kMaxPeers share one bucket.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_OBSERVE_LINE_LIMITER_H_
#define SERVER_OBSERVE_LINE_LIMITER_H_

#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "server/base/token_bucket.h"

namespace tdp::server {

class LineLimiter {
 public:
  static constexpr size_t kMaxPeers = 1024;

  // `lines_per_second`, of which as many may come at once.
  explicit LineLimiter(int lines_per_second) : rate_(lines_per_second) {}
  LineLimiter(const LineLimiter&) = delete;
  LineLimiter& operator=(const LineLimiter&) = delete;

  struct Answer {
    bool admitted = false;
    // Lines of this peer that were not admitted since its last one that was.
    int64_t left_out = 0;
  };
  // `now`: MonotonicNanoseconds().
  Answer Ask(uint64_t peer, int64_t now) ABSL_LOCKS_EXCLUDED(mutex_);

  // Lines that were not admitted, of all peers.
  int64_t left_out_count() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Lines {
    explicit Lines(int rate) : bucket(rate, rate) {}

    TokenBucket bucket;
    int64_t left_out = 0;
  };

  Lines& LinesOf(uint64_t peer, int64_t now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int rate_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, Lines> peers_ ABSL_GUARDED_BY(mutex_);
  Lines shared_ ABSL_GUARDED_BY(mutex_){rate_};
  int64_t left_out_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_LINE_LIMITER_H_
