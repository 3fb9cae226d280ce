// Lengths of time as people write them.
//
// Thread safety: free functions on values.

#ifndef CLIENT_LIB_DURATION_H_
#define CLIENT_LIB_DURATION_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace tdp::client {

// A positive time: "10" (seconds), "0.5", "500ms", "2m".
absl::StatusOr<absl::Duration> ParsePositiveDuration(absl::string_view text);

}  // namespace tdp::client

#endif  // CLIENT_LIB_DURATION_H_
