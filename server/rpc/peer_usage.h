// PeerUsage: what a peer makes the daemon do and hold, beyond the number of its
// calls. Its calls share one object; each reports as it goes.
//
// Work is limited for each peer and for all of them. When all together are in
// debt, only those wait that have had more than their part of it, which is the
// rate of all over the number of peers at work: one peer's debt is never
// another's.
//
// A call is asked for the debt of its peer when it comes. Whoever works on for
// long afterwards, such as a stream before each of its steps, is to ask
// CheckWork() by itself; it takes no lock.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_RPC_PEER_USAGE_H_
#define SERVER_RPC_PEER_USAGE_H_

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "engine/base/errors.h"
#include "server/base/monotonic_time.h"
#include "server/overload/work_bucket.h"

namespace tdp::server {

// What all peers may do together, and each of them. Of frames of 4 KiB.
struct WorkLimits {
  int64_t frames_per_second_of_peer;
  int64_t frames_per_second;
  int64_t burst_seconds;
};

// What all peers share.
class WorkOfAll {
 public:
  WorkOfAll(const WorkLimits& limits, MonotonicClock clock)
      : limits_(limits),
        clock_(std::move(clock)),
        bucket_(limits.frames_per_second, limits.burst_seconds) {}

  const WorkLimits& limits() const { return limits_; }
  int64_t Now() const { return clock_(); }
  WorkBucket& bucket() { return bucket_; }
  // Peers that worked lately, one at least.
  int64_t active_peers() const {
    return active_peers_.load(std::memory_order_relaxed);
  }
  void set_active_peers(int64_t count) {
    active_peers_.store(count, std::memory_order_relaxed);
  }

 private:
  const WorkLimits limits_;
  const MonotonicClock clock_;
  WorkBucket bucket_;
  std::atomic<int64_t> active_peers_ = 1;
};

class PeerUsage {
 public:
  // Without `all`, work is not limited.
  explicit PeerUsage(
      std::shared_ptr<WorkOfAll> all = nullptr,
      int64_t max_unsent_bytes = std::numeric_limits<int64_t>::max());
  PeerUsage(const PeerUsage&) = delete;
  PeerUsage& operator=(const PeerUsage&) = delete;

  // Frames of 4 KiB that were worked on; less than none is none.
  void AddWork(int64_t frames);
  // OK, or LIMIT_REACHED and how long to wait if the peer is in debt.
  absl::Status CheckWork() const;
  // The peer has worked within the last second.
  bool IsActive(int64_t now) const;
  // The peer owes nothing, and may be forgotten.
  bool IsPaidFor(int64_t now) const {
    return own_.full(now) && part_.full(now);
  }

  // Bytes of messages that gRPC has been given and has not taken, because the
  // peer does not read. Negative when it has.
  void AddUnsent(int64_t bytes) {
    unsent_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }
  int64_t unsent_bytes() const {
    return unsent_bytes_.load(std::memory_order_relaxed);
  }
  // Whether an answer may be made for the peer. LIMIT_REACHED if too many are
  // on their way to it.
  absl::Status CheckUnsent() const {
    if (unsent_bytes() < max_unsent_bytes_) return absl::OkStatus();
    return LimitError("max_unsent_bytes_per_client", max_unsent_bytes_,
                      "read the answers that are on their way first",
                      absl::Milliseconds(100));
  }

 private:
  const std::shared_ptr<WorkOfAll> all_;
  const int64_t max_unsent_bytes_;
  WorkBucket own_;
  // Its part of the work of all: a frame counts once for each active peer.
  WorkBucket part_;
  std::atomic<int64_t> worked_at_ = std::numeric_limits<int64_t>::min();
  std::atomic<int64_t> unsent_bytes_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_PEER_USAGE_H_
