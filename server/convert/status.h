// From the engine's errors to what a client sees.
//
// On the wire an error is a canonical code, a message and, in
// `grpc-status-details-bin`, a message that is wire-compatible with
// google.rpc.Status: exactly one google.rpc.ErrorInfo, followed by a
// google.rpc.RetryInfo where it helps to come back later.

#ifndef SERVER_CONVERT_STATUS_H_
#define SERVER_CONVERT_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"
#include "tdp/v1/error.pb.h"

namespace tdp::server {

// A status without a detail of ours is a bug and becomes INTERNAL. Texts that
// would not fit into the headers are cut.
v1::RpcStatus ToRpcStatus(const absl::Status& status);
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace tdp::server

#endif  // SERVER_CONVERT_STATUS_H_
