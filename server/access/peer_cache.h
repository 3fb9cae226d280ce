// PeerCache: who is at the other end of a connection, found once for each
// connection and policy instead of once for each call.
//
// A fixed number of slots; connections that share one evict each other, which
// costs them some microseconds a call.
//
// Thread safety: any thread.

#ifndef SERVER_ACCESS_PEER_CACHE_H_
#define SERVER_ACCESS_PEER_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/peer.h"

namespace tdp::server {

class PeerCache {
 public:
  static constexpr size_t kSlotCount = 1024;

  PeerCache() = default;
  PeerCache(const PeerCache&) = delete;
  PeerCache& operator=(const PeerCache&) = delete;

  // Null if it is not known under this generation of the policy.
  std::shared_ptr<const Peer> Find(const void* connection,
                                   uint64_t generation) const;
  // The cache keeps `connection`, so that its address means no other.
  void Insert(std::shared_ptr<const void> connection, uint64_t generation,
              std::shared_ptr<const Peer> peer);

 private:
  struct alignas(64) Slot {
    mutable absl::Mutex mutex;
    std::shared_ptr<const void> connection ABSL_GUARDED_BY(mutex);
    uint64_t generation ABSL_GUARDED_BY(mutex) = 0;
    std::shared_ptr<const Peer> peer ABSL_GUARDED_BY(mutex);
  };

  static size_t SlotOf(const void* connection);

  std::array<Slot, kSlotCount> slots_;
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_PEER_CACHE_H_
