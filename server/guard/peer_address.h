// The addresses that stand for connections, and what tells peers apart.

#ifndef SERVER_GUARD_PEER_ADDRESS_H_
#define SERVER_GUARD_PEER_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cstdint>
#include <utility>

namespace tdp::server {

// 100::`number`, of the discard-only prefix.
sockaddr_in6 AddressOfConnection(uint64_t number);
// The reverse; 0 if the address is none of those.
uint64_t ConnectionNumberOf(const in6_addr& address);

// What counts as one peer: a process, an IPv4 address or an IPv6 network of 64
// bits, since whoever has one address of it has them all.
struct PeerKey {
  uint64_t kind = 0;
  uint64_t value = 0;

  static PeerKey OfProcess(pid_t pid);
  static PeerKey OfUser(uid_t uid);
  // REQUIRES: an IPv4 or IPv6 address.
  static PeerKey OfAddress(const sockaddr_storage& address);

  friend bool operator==(const PeerKey&, const PeerKey&) = default;
  template <typename H>
  friend H AbslHashValue(H hash, const PeerKey& key) {
    return H::combine(std::move(hash), key.kind, key.value);
  }
};

}  // namespace tdp::server

#endif  // SERVER_GUARD_PEER_ADDRESS_H_
