// Every error that the engine and the daemon answer with.
//
// An error is a canonical code, a message that names the thing, its value and
// the way out, and an ErrorDetail: the reason of the API's error table and each
// variable part of the message. The detail travels as a payload of the
// absl::Status, so that it survives every layer without a transport type.
//
// Thread safety: free functions on values.

#ifndef ENGINE_BASE_ERRORS_H_
#define ENGINE_BASE_ERRORS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/types.h"

namespace tdp {

// The API's table of reasons (proto/tdp/v1/error.proto); same names, same
// numbers. Each reason has exactly one canonical code: see CodeOf().
enum class ErrorReason {
  kResourceNotFound = 1,
  kResourceExists = 2,
  kFieldInvalid = 3,
  kGfnNotBacked = 4,
  kMemslotOverlap = 5,
  kVmStateConflict = 6,
  kDirtyLogOff = 7,
  kEtagMismatch = 8,
  kOperationConflict = 9,
  kPageTableLimit = 10,
  kEventsTruncated = 11,
  kCapabilityMissing = 12,
  kSnapshotCorrupt = 13,
  kDraining = 14,
  kLimitReached = 15,
  kRoleDenied = 16,
  kUnauthenticated = 17,
  kNotImplemented = 18,
  kInternal = 19,
  kDeadlinePassed = 20,
  kCancelled = 21,
  kSourceFailed = 22,
  kHostMemoryExhausted = 23,
  kStreamTooSlow = 24,
  kRequestIdReused = 25,
  kGranuleUnsupported = 26,
};

absl::StatusCode CodeOf(ErrorReason reason);
// "MEMSLOT_OVERLAP" for kMemslotOverlap.
absl::string_view NameOf(ErrorReason reason);

using ErrorMetadata = std::vector<std::pair<std::string, std::string>>;

struct ErrorDetail {
  ErrorReason reason = ErrorReason::kInternal;
  ErrorMetadata metadata;
};

// Builds an error. `message` starts lower-case. `metadata` holds every variable
// part of it under a lowerCamelCase key.
absl::Status MakeError(ErrorReason reason, absl::string_view message,
                       ErrorMetadata metadata = {});
// The detail of an error that MakeError() built, else nothing.
std::optional<ErrorDetail> DetailOf(const absl::Status& status);

// "0x100" for frame 256: how messages and metadata show frames and addresses.
std::string Hex(uint64_t value);

// The errors that more than one place answers with.
absl::Status NotFoundError(absl::string_view name);
absl::Status AlreadyExistsError(absl::string_view name);
// `field` is the path of the API field, e.g. "range.start_gfn".
absl::Status FieldError(absl::string_view field, absl::string_view value,
                        absl::string_view rule);
absl::Status GfnNotBackedError(Gfn gfn);
absl::Status NotImplementedError(absl::string_view method);
// A positive `retry_delay` says when waiting alone will have helped; it travels
// as metadata "retryDelayMs".
absl::Status LimitError(absl::string_view limit, int64_t value,
                        absl::string_view way_out,
                        absl::Duration retry_delay = absl::ZeroDuration());
// A broken invariant or an unexpected failure of the host.
absl::Status InternalError(absl::string_view message,
                           ErrorMetadata metadata = {});
// A failed system call: "ioctl(KVM_RUN): Bad address (errno 14)".
absl::Status HostCallError(absl::string_view call, int error_number);
// A host call on a window failed, at or behind `gfn`: HOST_MEMORY_EXHAUSTED for
// ENOMEM.
enum class WindowCall { kMap, kUnmap, kProtect };
absl::Status HostFrameError(WindowCall call, Gfn gfn, int error_number);

}  // namespace tdp

#endif  // ENGINE_BASE_ERRORS_H_
