// The names of canonical codes as gRPC writes them.

#ifndef SERVER_OBSERVE_CODE_NAMES_H_
#define SERVER_OBSERVE_CODE_NAMES_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tdp::server {

inline constexpr absl::string_view kCodeNames[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};
inline constexpr size_t kCodeCount = sizeof(kCodeNames) / sizeof(*kCodeNames);
static_assert(static_cast<size_t>(absl::StatusCode::kUnauthenticated) ==
              kCodeCount - 1);

// What is no code counts as UNKNOWN.
constexpr size_t CodeIndex(absl::StatusCode code) {
  const size_t index = static_cast<size_t>(code);
  return index < kCodeCount ? index
                            : static_cast<size_t>(absl::StatusCode::kUnknown);
}
constexpr absl::string_view CodeName(absl::StatusCode code) {
  return kCodeNames[CodeIndex(code)];
}

}  // namespace tdp::server

#endif  // SERVER_OBSERVE_CODE_NAMES_H_
