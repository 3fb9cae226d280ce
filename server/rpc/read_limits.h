// How slowly a client may read what it asked for.

#ifndef SERVER_RPC_READ_LIMITS_H_
#define SERVER_RPC_READ_LIMITS_H_

#include <cstdint>

namespace tdp::server {

// A message may stay unread for max_unread_seconds, and on top for as long as
// all that its client has unread takes at this rate: the messages share the way
// to it. gRPC says when it has taken a whole message, and nothing in between.
// So who reads at least this fast is not cut off for a message that is large,
// and of who does not read a message of 4 MiB is kept for a minute more.
inline constexpr int64_t kMinReadBytesPerSecond = int64_t{64} << 10;

}  // namespace tdp::server

#endif  // SERVER_RPC_READ_LIMITS_H_
