// AccessGate: finds out who calls, and whether he may.
//
// Who calls is the user of the process that opened a connection over a Unix
// socket; the SPIFFE ID, or else the DNS names, of a client's certificate; or
// "loopback" where TCP goes without TLS. All connections of one identity have
// the same Peer::id, and each call is judged by the policy that holds then.
//
// Thread safety: any thread.

#ifndef SERVER_ACCESS_ACCESS_GATE_H_
#define SERVER_ACCESS_ACCESS_GATE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/access/peer_cache.h"
#include "server/access/policy_source.h"
#include "server/guard/unix_peer.h"
#include "server/rpc/call_gate.h"

struct grpc_auth_context;

namespace tdp::server {

// What the gate refused since it exists.
struct AccessStats {
  // By the role that the method needs, as a number.
  std::array<int64_t, 4> role_denied_count = {};
  int64_t unauthenticated_count = 0;
};

// The id of a peer: a number made of its identity, never 0.
uint64_t PeerId(absl::string_view identity);

// The answer to a caller whose role does not suffice.
absl::Status RoleDeniedError(const MethodTraits& method, const Peer& peer);

class AccessGate final : public CallGate {
 public:
  // Of a peer as gRPC names it; null if it is none over a Unix socket.
  using FindUnixPeer = std::function<std::shared_ptr<const UnixCredentials>(
      absl::string_view grpc_peer)>;

  // `policy` outlives the gate.
  AccessGate(const PolicySource& policy, FindUnixPeer find_unix_peer);

  absl::Status Enter(grpc::ServerContext& transport,
                     CallContext& context) override;
  void Leave(CallContext&, absl::StatusCode) override {}

  AccessStats stats() const;

 private:
  // Null if nothing says who it is.
  std::shared_ptr<const Peer> PeerOf(grpc::ServerContext& transport);
  std::shared_ptr<const Peer> Identify(const grpc::ServerContext& transport,
                                       const grpc_auth_context* connection,
                                       const AccessPolicy& policy) const;

  const PolicySource& policy_;
  const FindUnixPeer find_unix_peer_;
  PeerCache peers_;
  std::array<std::atomic<int64_t>, 4> role_denied_count_ = {};
  std::atomic<int64_t> unauthenticated_count_ = 0;
};

}  // namespace tdp::server

#endif  // SERVER_ACCESS_ACCESS_GATE_H_
