// GuestMemory: the bytes of one memslot. A sealed memfd that is mapped twice:
// the window, which the guest sees, and the alias, which the daemon loads
// content through.
//
// Its pages are of 4K, or of 2M (hugetlb). Those of 2M come from a pool: all of
// them are allocated at once, by Create(), or it fails.
//
// Invariants: the memfd can neither shrink nor grow, so that no access behind
// its size is possible. No system call gets a pointer into the window, other
// than those that change the mapping itself (madvise, mprotect, munmap, KVM,
// userfaultfd): any other would sleep in a page fault of the guest's. The alias
// is touched only where the memfd has a page; touching a hole would allocate
// it, or raise SIGBUS where the host has no memory.
//
// Thread safety: all methods, from any thread. The callers order what they do
// to one frame.

#ifndef ENGINE_MEMORY_GUEST_MEMORY_H_
#define ENGINE_MEMORY_GUEST_MEMORY_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/types.h"
#include "engine/memory/host_calls.h"

namespace tdp {

// The name that a memfd of this folder has below /proc/PID/fd.
inline constexpr absl::string_view kMemfdPrefix = "tdpd-";

class GuestMemory {
 public:
  // Reserves address space, and pages of 2M but not of 4K. `name` shows in
  // /proc/PID/maps. `calls` outlives the object. HOST_MEMORY_EXHAUSTED leaves
  // the pool as it was. REQUIRES: frame_count > 0, whole pages; page_level is
  // k4K or k2M.
  static absl::StatusOr<std::unique_ptr<GuestMemory>> Create(
      absl::string_view name, uint64_t frame_count, HostCalls* calls,
      PageLevel page_level = PageLevel::k4K);

  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;
  ~GuestMemory();

  uint64_t frame_count() const { return frame_count_; }
  uint64_t size_bytes() const { return frame_count_ << kPageShift; }
  Hva window() const { return window_; }
  PageLevel page_level() const { return page_level_; }
  int page_shift() const {
    return page_level_ == PageLevel::k4K ? kPageShift
                                         : kPageShift + kTableIndexBits;
  }

  // The following return 0 or an errno, and count pages from 0.
  //
  // Allocates pages that are missing; new ones are zero. ENOSPC or ENOMEM: of
  // several, some may be there.
  int Allocate(uint64_t first, uint64_t count);
  // Gives the pages back; they read as zero.
  int PunchHole(uint64_t first, uint64_t count);
  // Reads bytes without allocating; holes read as zero.
  int Read(uint64_t offset, absl::Span<char> bytes);
  // Writes bytes. REQUIRES: their pages are allocated.
  int Write(uint64_t offset, absl::Span<const char> bytes);

  // Where the daemon may write the bytes of pages that are allocated.
  absl::Span<char> Alias(uint64_t first, uint64_t count);

  // Memory that the host holds for this object.
  absl::StatusOr<int64_t> AllocatedBytes() const;

  int fd() const { return fd_; }

 private:
  GuestMemory(HostCalls* calls, int fd, uint64_t frame_count,
              PageLevel page_level)
      : calls_(calls),
        fd_(fd),
        frame_count_(frame_count),
        page_level_(page_level) {}

  HostCalls* const calls_;
  const int fd_;
  const uint64_t frame_count_;
  const PageLevel page_level_;
  // Both are set once, by Create(); 0 until then.
  Hva window_;
  Hva alias_;
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_GUEST_MEMORY_H_
