// Reply: how a handler that does not answer at once ends its call.

#ifndef SERVER_RPC_REPLY_H_
#define SERVER_RPC_REPLY_H_

#include <functional>

#include "absl/status/status.h"

namespace tdp::server {

// Ends a call. May be called from any thread, holding nothing; only the first
// call of it counts. The request, the response and the context of the call live
// as long as any copy of it.
using Reply = std::function<void(absl::Status)>;

}  // namespace tdp::server

#endif  // SERVER_RPC_REPLY_H_
