// ScanWritten: which pages of a range were written since their write protection
// was last resolved by the kernel itself (UFFD_FEATURE_WP_ASYNC).
//
// ioctl(PAGEMAP_SCAN) of Linux 6.7; the header of Debian 12 does not have it.
// (Linux include/uapi/linux/fs.h, Documentation/admin-guide/mm/pagemap.rst)
//
// Thread safety: any thread.

#ifndef ENGINE_MEMORY_PAGEMAP_SCAN_H_
#define ENGINE_MEMORY_PAGEMAP_SCAN_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/base/types.h"

namespace tdp {

// Calls visit(first, end) for each run of pages of this process that are mapped
// and were written, counted from `start`, and write-protects them again, each
// at the instant that it is found. `bytes` is a multiple of the page size.
absl::Status ScanWritten(
    Hva start, uint64_t bytes,
    absl::FunctionRef<void(uint64_t first, uint64_t end)> visit);

}  // namespace tdp

#endif  // ENGINE_MEMORY_PAGEMAP_SCAN_H_
