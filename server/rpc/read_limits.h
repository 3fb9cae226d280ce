// How slowly a client may read what it asked for.

#ifndef SERVER_RPC_READ_LIMITS_H_
#define SERVER_RPC_READ_LIMITS_H_

#include <cstdint>

namespace tdp::server {

// A message may stay unread for max_unread_seconds, and for as long as it takes
// at this rate on top. gRPC says when it has taken a whole message, and nothing
// in between: so who reads steadily, and no slower than this, is never cut off,
// and of who does not read a message of 4 MiB is kept for a minute more.
inline constexpr int64_t kMinReadBytesPerSecond = int64_t{64} << 10;

}  // namespace tdp::server

#endif  // SERVER_RPC_READ_LIMITS_H_
