// Puts the guard between gRPC and the kernel.
//
// gRPC 1.51 has no defence against abuse of HTTP/2 and no place for one, but it
// calls accept4(), recvmsg(), sendmsg() and close() like any other library. The
// executable that links this library defines these functions itself, and the
// dynamic linker prefers an executable's functions to those of the C library.
// They do what the C library's do, and tell the ConnectionTable. A Unix socket
// has TCP_INQ besides (unread_hint.h), hence setsockopt().
//
// Thread safety: any thread.

#ifndef SERVER_GUARD_INTERPOSE_H_
#define SERVER_GUARD_INTERPOSE_H_

#include "absl/status/status.h"

namespace tdp::server {

// An error if shared libraries of this process call other functions than ours:
// then nothing is guarded.
absl::Status CheckInterposition();

}  // namespace tdp::server

#endif  // SERVER_GUARD_INTERPOSE_H_
