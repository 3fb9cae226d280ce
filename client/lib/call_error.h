// Errors of the daemon, from the wire to what people and scripts read.
//
// A failed call is an absl::Status with the canonical code and the daemon's
// message; each detail of `grpc-status-details-bin` is a payload of it under
// its type URL.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_CALL_ERROR_H_
#define CLIENT_LIB_CALL_ERROR_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tdp/v1/error.pb.h"

namespace tdp::client {

// Builds the status of a failed call. `details_bin` is the value of
// `grpc-status-details-bin`, a serialized google.rpc.Status; what cannot be
// parsed is left out.
absl::Status MakeCallError(int code, absl::string_view message,
                           absl::string_view details_bin);

// The ErrorInfo that came with the error, if any.
std::optional<v1::ErrorInfo> ErrorInfoOf(const absl::Status& status);

// The delay of the RetryInfo that came with the error, if any.
std::optional<absl::Duration> RetryDelayOf(const absl::Status& status);

// The same error with `suffix` after its message.
absl::Status WithSuffix(const absl::Status& status, absl::string_view suffix);

// "NOT_FOUND: vms/x does not exist".
std::string ErrorText(const absl::Status& status);
// {"error":{"code":"NOT_FOUND","message":"...","reason":"...",...}}
std::string ErrorJson(const absl::Status& status);

}  // namespace tdp::client

#endif  // CLIENT_LIB_CALL_ERROR_H_
