// Errors of the host that more than one place of this folder meets.
//
// Thread safety: free functions on values.

#ifndef ENGINE_MEMORY_HOST_ERRORS_H_
#define ENGINE_MEMORY_HOST_ERRORS_H_

#include "absl/status/status.h"

namespace tdp {

// LIMIT_REACHED for EMFILE (the process) and ENFILE (the host).
absl::Status TooManyFilesError(int error_number);

}  // namespace tdp

#endif  // ENGINE_MEMORY_HOST_ERRORS_H_
