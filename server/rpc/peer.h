// Peer: who makes a call.

#ifndef SERVER_RPC_PEER_H_
#define SERVER_RPC_PEER_H_

#include <cstdint>
#include <string>

#include "server/rpc/method_traits.h"

namespace tdp::server {

// All connections of one identity are one peer: they share its limits.
struct Peer {
  // For logs: "uid:1000", "spiffe://cluster/orchestrator", "dns:node-7".
  std::string identity;
  Role role = Role::kNone;
  // Of this identity while the daemon runs; 0 is nobody's.
  uint64_t id = 0;
};

}  // namespace tdp::server

#endif  // SERVER_RPC_PEER_H_
