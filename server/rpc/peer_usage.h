// PeerUsage: what a peer makes the daemon do and hold, beyond the number of its
// calls. Its calls share one object; each reports as it goes.
//
// Thread safety: all methods, from any thread.

#ifndef SERVER_RPC_PEER_USAGE_H_
#define SERVER_RPC_PEER_USAGE_H_

#include <atomic>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "engine/base/errors.h"

namespace tdp::server {

class PeerUsage {
 public:
  // What is reported counts for `all`, too, if it is not null; it then outlives
  // this object.
  explicit PeerUsage(
      PeerUsage* all = nullptr,
      int64_t max_unsent_bytes = std::numeric_limits<int64_t>::max())
      : all_(all), max_unsent_bytes_(max_unsent_bytes) {}
  PeerUsage(const PeerUsage&) = delete;
  PeerUsage& operator=(const PeerUsage&) = delete;

  // Frames of 4 KiB that were worked on. Relaxed, all of it: statistics.
  void AddWork(int64_t frames) {
    work_.fetch_add(frames, std::memory_order_relaxed);
    if (all_ != nullptr) all_->AddWork(frames);
  }
  // What was added since the last time.
  int64_t TakeWork() {
    if (work_.load(std::memory_order_relaxed) == 0) return 0;
    return work_.exchange(0, std::memory_order_relaxed);
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
  PeerUsage* const all_;
  const int64_t max_unsent_bytes_;
  std::atomic<int64_t> work_ = 0;
  std::atomic<int64_t> unsent_bytes_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_PEER_USAGE_H_
