#include "server/access/peer_cache.h"

#include <utility>

#include "absl/hash/hash.h"

namespace tdp::server {

std::shared_ptr<const Peer> PeerCache::Find(const void* connection,
                                            uint64_t generation) const {
  const Slot& slot = slots_[SlotOf(connection)];
  absl::MutexLock lock(&slot.mutex);
  if (slot.connection.get() != connection || slot.generation != generation) {
    return nullptr;
  }
  return slot.peer;
}

void PeerCache::Insert(std::shared_ptr<const void> connection,
                       uint64_t generation, std::shared_ptr<const Peer> peer) {
  Slot& slot = slots_[SlotOf(connection.get())];
  {
    absl::MutexLock lock(&slot.mutex);
    slot.connection.swap(connection);
    slot.generation = generation;
    slot.peer.swap(peer);
  }
  // What was there before is let go of here, under no lock.
}

size_t PeerCache::SlotOf(const void* connection) {
  return absl::HashOf(connection) % kSlotCount;
}

}  // namespace tdp::server
