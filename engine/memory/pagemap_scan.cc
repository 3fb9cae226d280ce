#include "engine/memory/pagemap_scan.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "engine/base/errors.h"
#include "engine/memory/scoped_fd.h"

namespace tdp {
namespace {

struct PageRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};
struct PagemapScan {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, PagemapScan);

constexpr uint64_t kProtectMatching = 1 << 0;
constexpr uint64_t kCheckAsync = 1 << 1;
constexpr uint64_t kWritten = 1 << 1;
// Else pages that are not mapped would count as written. Those that the kernel
// migrates at this moment are swapped.
constexpr uint64_t kPresent = 1 << 3;
constexpr uint64_t kSwapped = 1 << 4;

constexpr size_t kRegions = 256;

}  // namespace

absl::Status ScanWritten(
    Hva start, uint64_t bytes,
    absl::FunctionRef<void(uint64_t first, uint64_t end)> visit) {
  const ScopedFd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (pagemap.get() < 0) return HostCallError("open(pagemap)", errno);
  std::array<PageRegion, kRegions> regions;
  const uint64_t end = start.value() + bytes;
  for (uint64_t at = start.value(); at < end;) {
    PagemapScan scan = {};
    scan.size = sizeof(scan);
    scan.flags = kProtectMatching | kCheckAsync;
    scan.start = at;
    scan.end = end;
    scan.vec = reinterpret_cast<uintptr_t>(regions.data());
    scan.vec_len = regions.size();
    scan.category_mask = kWritten;
    scan.category_anyof_mask = kPresent | kSwapped;
    scan.return_mask = kWritten;
    const int count = ioctl(pagemap.get(), kPagemapScan, &scan);
    if (count < 0) {
      if (errno == EINTR) continue;
      return HostCallError("ioctl(PAGEMAP_SCAN)", errno);
    }
    for (int i = 0; i < count; ++i) {
      const PageRegion& region = regions[static_cast<size_t>(i)];
      visit((region.start - start.value()) >> kPageShift,
            (region.end - start.value()) >> kPageShift);
    }
    at = scan.walk_end;
  }
  return absl::OkStatus();
}

}  // namespace tdp
