// Userfaultfd: owns one userfaultfd and makes its calls, with the kernel's
// answers as they are.
//
// Thread safety: all methods but moves, from any thread; the kernel serialises
// what must be. Closing wakes nobody safely: a thread that sleeps in a fault
// when the descriptor is closed goes on with a zero page, so close only what
// nobody sleeps in.

#ifndef ENGINE_MEMORY_USERFAULTFD_H_
#define ENGINE_MEMORY_USERFAULTFD_H_

#include <linux/userfaultfd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/types.h"

namespace tdp {

// What the header of Debian 12 does not have yet.
inline constexpr uint64_t kContinueModeWriteProtect = uint64_t{1} << 1;
inline constexpr uint64_t kFeatureWriteProtectUnpopulated = uint64_t{1} << 13;
inline constexpr uint64_t kFeatureWriteProtectAsync = uint64_t{1} << 15;

// Features that every userfaultfd of ours is opened with.
inline constexpr uint64_t kUserfaultfdFeatures =
    UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_MISSING_SHMEM |
    UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS |
    UFFD_FEATURE_MINOR_HUGETLBFS | UFFD_FEATURE_THREAD_ID |
    UFFD_FEATURE_EXACT_ADDRESS | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;

// Whose faults must be handled.
enum class FaultOrigin {
  kKernelAndUser,  // KVM touches guest memory from the kernel
  kUserOnly,       // host threads touch it: needs no privileges
};

struct UserfaultfdOptions {
  FaultOrigin origin = FaultOrigin::kKernelAndUser;
  // Tried first.
  std::string device_path = "/dev/userfaultfd";
  // Whether to fall back on userfaultfd(2).
  bool use_system_call = true;
  // The kernel itself lets a write to a protected page happen, and notes it.
  bool asynchronous_write_protection = false;
};

// Which way a userfaultfd was got, if at all.
enum class UserfaultfdWay { kNone, kDevice, kSystemCall, kSystemCallUserOnly };

// A descriptor as the kernel gave it, before the handshake. `fd` is -1 if no
// way led to one; the errors say why each way that was tried did not.
struct UserfaultfdOpening {
  int fd = -1;
  UserfaultfdWay way = UserfaultfdWay::kNone;
  int device_error = 0;
  int system_call_error = 0;
};

// Opens a descriptor (O_CLOEXEC | O_NONBLOCK) that the caller closes.
UserfaultfdOpening OpenUserfaultfd(const UserfaultfdOptions& options);

// `error` is 0 or an errno. `mapped` is what UFFDIO_CONTINUE reported: bytes,
// or a negative errno.
struct ContinueResult {
  int error = 0;
  int64_t mapped = 0;
};

class Userfaultfd {
 public:
  // CAPABILITY_MISSING names the missing permission or feature and the fix.
  static absl::StatusOr<Userfaultfd> Create(
      const UserfaultfdOptions& options = {});

  Userfaultfd(Userfaultfd&& other) noexcept;
  Userfaultfd& operator=(Userfaultfd&& other) noexcept;
  ~Userfaultfd();

  // The following return 0 or an errno. Addresses and sizes are multiples of
  // the page size.
  //
  // `modes` is a set of UFFDIO_REGISTER_MODE_*.
  int Register(Hva start, uint64_t bytes, uint64_t modes) const;
  int Unregister(Hva start, uint64_t bytes) const;
  int WriteProtect(Hva start, uint64_t bytes, uint64_t mode) const;
  int Wake(Hva start, uint64_t bytes) const;

  // Maps pages that the file has. Half-way failures: see ContinueResult.
  ContinueResult Continue(Hva start, uint64_t bytes, uint64_t mode) const;

  // Reads up to messages.size() events without waiting; 0 if there are none.
  absl::StatusOr<size_t> ReadEvents(absl::Span<uffd_msg> messages) const;

  // For poll and epoll.
  int fd() const { return fd_; }

 private:
  explicit Userfaultfd(int fd) : fd_(fd) {}

  int fd_;
};

}  // namespace tdp

#endif  // ENGINE_MEMORY_USERFAULTFD_H_
