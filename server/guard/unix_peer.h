// Who is at the other end of a connection over a Unix socket.
//
// gRPC names every peer by its address, and clients of a Unix socket have none.
// So the guard gives each connection that it accepts an address that no host
// can have: 100::N of the discard-only prefix (RFC 6666), where N counts the
// connections of this process. A number is never used twice: a call that is
// still queued when its connection is gone names nobody, not the next client
// that got the same file descriptor.
//
// Thread safety: any thread.

#ifndef SERVER_GUARD_UNIX_PEER_H_
#define SERVER_GUARD_UNIX_PEER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"

namespace tdp::server {

// What the kernel knows of the process that connected, as of that moment.
struct UnixCredentials {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  std::vector<gid_t> groups;  // supplementary ones
};

// Of a peer as grpc::ServerContext::peer() names it. Null if it came over
// something else than a Unix socket, or if its connection is closed.
std::shared_ptr<const UnixCredentials> FindUnixPeer(
    absl::string_view grpc_peer);

// The number of a connection over a Unix socket, from 1 on; 0 for all others.
uint64_t ConnectionNumberOf(absl::string_view grpc_peer);

}  // namespace tdp::server

#endif  // SERVER_GUARD_UNIX_PEER_H_
