// A gRPC channel to a target.
//
// Thread safety: free function.

#ifndef CLIENT_LIB_CHANNEL_H_
#define CLIENT_LIB_CHANNEL_H_

#include <memory>

#include "absl/status/statusor.h"
#include "client/lib/target.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace tdp::client {

// A channel with a connection of its own, made at the first call. Fails if the
// target is no good or a TLS file cannot be read.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(
    const Target& target);

}  // namespace tdp::client

#endif  // CLIENT_LIB_CHANNEL_H_
